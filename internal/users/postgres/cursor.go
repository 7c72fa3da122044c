package postgres

import (
	"bytes"
	"fmt"
	"slices"
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

// admits reports whether a user at q comes after p.
func (p place) admits(q place) bool { return p.begins() || p.before(q) }

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

// A cursor is a place for each bucket. They differ after a page on which shards
// were missing: what those have comes later, and is not lost; nor is it where it
// moves to another shard in the meantime, which is why buckets have places rather
// than shards.
type cursor struct {
	main place // of all that rest has not
	rest []group
}

// A group is buckets of one place. Those of a cursor are disjoint.
type group struct {
	in buckets
	at place
}

// beyond is the cursor after a page that ends at last: buckets that it had
// nothing of stay where they were.
func (c cursor) beyond(last place, answered *buckets) cursor {
	var next cursor
	add := func(in buckets, at place) {
		for i := range next.rest {
			if next.rest[i].at == at {
				next.rest[i].in.add(&in)
				return
			}
		}
		if in != (buckets{}) {
			next.rest = append(next.rest, group{in, at})
		}
	}
	others := every()
	for _, g := range append(slices.Clip(c.rest), group{at: c.main}) {
		if g.in == (buckets{}) {
			g.in = others
		}
		others.remove(&g.in)
		there, away := g.in, g.in
		there.keep(answered)
		away.remove(answered)
		add(there, g.at.further(last))
		add(away, g.at)
	}
	most := 0
	for i := range next.rest {
		if next.rest[i].in.count() > next.rest[most].in.count() {
			most = i
		}
	}
	next.main = next.rest[most].at
	next.rest = slices.Delete(next.rest, most, most+1)
	return next
}

// of is the place of one bucket.
func (c cursor) of(b shard.Bucket) place {
	for i := range c.rest {
		if c.rest[i].in.has(int(b)) {
			return c.rest[i].at
		}
	}
	return c.main
}

// encode writes the place of most buckets, and those of the others behind the
// buckets: micros.id;0-99,512=micros.id
func (c cursor) encode() string {
	text := c.main.String()
	for i := range c.rest {
		text += ";" + c.rest[i].in.String() + "=" + c.rest[i].at.String()
	}
	if text == "" { // the beginning once more: nobody answered yet
		return ";"
	}
	return text
}

func decodeCursor(s string) (c cursor, err error) {
	if s == "" || s == ";" {
		return c, nil
	}
	bad := fmt.Errorf("%w: %.40q", users.ErrCursor, s)
	parts := strings.Split(s, ";")
	if c.main, err = parsePlace(parts[0]); err != nil || len(parts) == 1 && c.main.begins() {
		return c, bad
	}
	var all buckets
	for _, part := range parts[1:] {
		set, text, _ := strings.Cut(part, "=")
		var g group
		if g.in, err = parseBuckets(set); err == nil {
			g.at, err = parsePlace(text)
		}
		twice := g.in
		if twice.keep(&all); err != nil || twice != (buckets{}) {
			return c, bad
		}
		all.add(&g.in)
		c.rest = append(c.rest, g)
	}
	return c, nil
}
