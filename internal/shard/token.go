package shard

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Position is a place in the history of a shard: LSNs grow along a timeline,
// and a promotion begins a new one.
type Position struct {
	Timeline uint32
	LSN      uint64
}

// Covers reports whether a server that has replayed up to p shows what was
// written at q. A server on an older timeline than q's may have another history
// at that LSN; one on a newer has all of q's history that has survived.
func (p Position) Covers(q Position) bool { return p.Timeline >= q.Timeline && p.LSN >= q.LSN }

func (p Position) newer(q Position) bool {
	return p.Timeline > q.Timeline || p.Timeline == q.Timeline && p.LSN > q.LSN
}

// A Token is what somebody has seen of all shards. Its zero value is nothing.
type Token struct {
	// Version is that of a map by which it was written: a router with an older
	// one might look at a shard that has the bucket no longer.
	Version int64
	at      []Position // by shard
}

// ErrToken says that a text is no token over these shards.
var ErrToken = errors.New("shard: not a token of these shards")

// At is what t has seen of a shard.
func (t Token) At(shard int) Position {
	if shard < len(t.at) {
		return t.at[shard]
	}
	return Position{}
}

// Saw adds to t what a write has returned.
func (t *Token) Saw(version int64, shard int, p Position) {
	t.Version = max(t.Version, version)
	if grow := shard + 1 - len(t.at); grow > 0 {
		t.at = append(t.at[:len(t.at):len(t.at)], make([]Position, grow)...)
	}
	if p.newer(t.at[shard]) {
		t.at[shard] = p
	}
}

// Encode writes t as version|shard|timeline|lsn|shard|…, with the names of the
// shards.
func (t Token) Encode(names []string) string {
	if t.Version == 0 && len(t.at) == 0 {
		return ""
	}
	b := strconv.AppendInt(nil, t.Version, 10)
	for i, p := range t.at {
		if p != (Position{}) {
			b = append(append(append(b, '|'), names[i]...), '|')
			b = append(strconv.AppendUint(b, uint64(p.Timeline), 10), '|')
			b = strconv.AppendUint(b, p.LSN, 16)
		}
	}
	return string(b)
}

// DecodeToken reads what Encode wrote; the error wraps ErrToken.
func DecodeToken(s string, names []string) (Token, error) {
	var t Token
	if s == "" {
		return t, nil
	}
	parts := strings.Split(s, "|")
	version, err := strconv.ParseInt(parts[0], 10, 64)
	if err != nil || version < 0 || len(parts)%3 != 1 || len(parts) > 3*len(names)+1 {
		return t, fmt.Errorf("%w: %.40q", ErrToken, s)
	}
	t.Version = version
	for rest := parts[1:]; len(rest) > 0; rest = rest[3:] {
		shard := indexOf(names, rest[0])
		timeline, errT := strconv.ParseUint(rest[1], 10, 32)
		lsn, errL := strconv.ParseUint(rest[2], 16, 64)
		if shard < 0 || errT != nil || errL != nil {
			return Token{}, fmt.Errorf("%w: %.40q", ErrToken, s)
		}
		t.Saw(version, shard, Position{uint32(timeline), lsn})
	}
	return t, nil
}

func indexOf(names []string, name string) int {
	for i := range names {
		if names[i] == name {
			return i
		}
	}
	return -1
}
