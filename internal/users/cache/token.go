package cache

import (
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-edge/sluice/internal/users"
)

// A history is what a Token says: the store's own, and the newest writes of the
// client, so that no cached entry is taken that is older than one of them.
type history struct {
	store   users.Token
	writes  []write   // the newest first
	dropped time.Time // when the newest was made that is no longer among writes
}

type write struct {
	user    uint64 // xxhash of the ID: two that collide cost a read too many
	version int64
	at      int64 // unix seconds
}

const (
	maxWrites   = 12
	tokenPrefix = "c1;"
)

// parseToken reads what token wrote: c1;dropped;user.version.at,…;store
func parseToken(t users.Token) (history, error) {
	if t == "" || t == users.Newest {
		return history{store: t}, nil
	}
	rest, ok := strings.CutPrefix(string(t), tokenPrefix)
	dropped, rest, ok2 := strings.Cut(rest, ";")
	list, store, ok3 := strings.Cut(rest, ";")
	if !ok || !ok2 || !ok3 {
		return history{}, users.ErrToken
	}
	h := history{store: users.Token(store)}
	var err error
	if dropped != "" {
		var at int64
		at, err = strconv.ParseInt(dropped, 36, 64)
		h.dropped = time.Unix(at, 0)
	}
	for list != "" && err == nil {
		var item string
		item, list, _ = strings.Cut(list, ",")
		var w write
		w, err = parseWrite(item)
		h.writes = append(h.writes, w)
	}
	if err != nil || len(h.writes) > maxWrites {
		return history{}, users.ErrToken
	}
	return h, nil
}

func parseWrite(item string) (w write, err error) {
	parts := strings.Split(item, ".")
	if len(parts) != 3 {
		return w, users.ErrToken
	}
	if w.user, err = strconv.ParseUint(parts[0], 36, 64); err != nil {
		return w, err
	}
	if w.version, err = strconv.ParseInt(parts[1], 36, 64); err != nil {
		return w, err
	}
	w.at, err = strconv.ParseInt(parts[2], 36, 64)
	return w, err
}

func (h history) token() users.Token {
	b := append(make([]byte, 0, 64+32*len(h.writes)), tokenPrefix...)
	if !h.dropped.IsZero() {
		b = strconv.AppendInt(b, h.dropped.Unix(), 36)
	}
	b = append(b, ';')
	for i, w := range h.writes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(strconv.AppendUint(b, w.user, 36), '.')
		b = append(strconv.AppendInt(b, w.version, 36), '.')
		b = strconv.AppendInt(b, w.at, 36)
	}
	b = append(b, ';')
	return users.Token(append(b, h.store...))
}

// with is h after one more write. Those that are so old that nothing cached can
// be older need no mention.
func (h history) with(id string, version int64, now time.Time, horizon time.Duration) history {
	out := history{store: h.store, dropped: h.dropped}
	user := xxhash.Sum64String(id)
	out.writes = append(out.writes, write{user, version, now.Unix()})
	for _, w := range h.writes {
		at := time.Unix(w.at, 0)
		switch {
		case w.user == user, past(at, now, horizon):
		case len(out.writes) < maxWrites:
			out.writes = append(out.writes, w)
		case at.After(out.dropped):
			out.dropped = at
		}
	}
	if past(out.dropped, now, horizon) {
		out.dropped = time.Time{}
	}
	return out
}

// past reports whether a write at that time (whole seconds) is older than any
// entry can be.
func past(at, now time.Time, horizon time.Duration) bool {
	return now.Sub(at) > horizon+2*time.Second
}

// need is the version that the client has written of a user; bypass says that
// the token does not tell.
func (h history) need(id string, now time.Time, horizon time.Duration) (version int64, bypass bool) {
	user := xxhash.Sum64String(id)
	for _, w := range h.writes {
		if w.user == user {
			return w.version, false
		}
	}
	return 0, !h.dropped.IsZero() && !past(h.dropped, now, horizon)
}
