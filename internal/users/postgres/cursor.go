package postgres

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// A place is where a list goes on: behind the user of that time and id. The zero
// place is the beginning.
type place struct {
	at time.Time
	id shard.ID
}

func (p place) begins() bool { return p == place{} }

// before reports whether a user at p comes before one at q: the newest first.
func (p place) before(q place) bool {
	if c := p.at.Compare(q.at); c != 0 {
		return c > 0
	}
	return bytes.Compare(p.id[:], q.id[:]) > 0
}

// further is the place of two that is nearer to the end.
func (p place) further(q place) place {
	if p.begins() || !q.begins() && p.before(q) {
		return q
	}
	return p
}

func (p place) String() string {
	if p.begins() {
		return ""
	}
	return strconv.FormatInt(p.at.UnixMicro(), 10) + "." + p.id.String()
}

func parsePlace(s string) (place, error) {
	if s == "" {
		return place{}, nil
	}
	micros, id, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(micros, 10, 64)
	if err != nil {
		return place{}, err
	}
	key, err := shard.ParseID(id)
	return place{time.UnixMicro(n).UTC(), key}, err
}

// A cursor has a place for each shard. They differ after a page on which some
// were missing: what they have comes later, and is not lost.
type cursor []place

// encode writes the place of most shards, and the others by name:
// micros.id;shard=micros.id
func (c cursor) encode(names []string) string {
	most := place{}
	for _, p := range c {
		most = most.further(p)
	}
	b := most.String()
	for i, p := range c {
		if p != most {
			b += ";" + names[i] + "=" + p.String()
		}
	}
	return b
}

func decodeCursor(s string, names []string) (cursor, error) {
	c := make(cursor, len(names))
	parts := strings.Split(s, ";")
	most, err := parsePlace(parts[0])
	if err != nil || s != "" && len(parts) == 1 && most.begins() {
		return nil, fmt.Errorf("%w: %.40q", users.ErrCursor, s)
	}
	for i := range c {
		c[i] = most
	}
	for _, part := range parts[1:] {
		name, text, _ := strings.Cut(part, "=")
		p, err := parsePlace(text)
		i := indexOf(names, name)
		if err != nil || i < 0 {
			return nil, fmt.Errorf("%w: %.40q", users.ErrCursor, s)
		}
		c[i] = p
	}
	return c, nil
}

func indexOf(names []string, name string) int {
	for i := range names {
		if names[i] == name {
			return i
		}
	}
	return -1
}
