package postgres

import (
	"encoding/base64"
	"errors"
	"math/bits"
	"strconv"
	"strings"

	"github.com/sluice-edge/sluice/internal/shard"
)

// buckets is a set of them, as get_bit of PostgreSQL sees it.
type buckets [shard.Buckets / 8]byte

// every has all.
func every() (all buckets) {
	for i := range all {
		all[i] = 0xff
	}
	return all
}

func (s *buckets) has(b int) bool { return s[b/8]>>(b%8)&1 != 0 }

func (s *buckets) add(other *buckets) {
	for i := range s {
		s[i] |= other[i]
	}
}

func (s *buckets) remove(other *buckets) {
	for i := range s {
		s[i] &^= other[i]
	}
}

func (s *buckets) keep(other *buckets) {
	for i := range s {
		s[i] &= other[i]
	}
}

func (s *buckets) count() (n int) {
	for _, b := range s {
		n += bits.OnesCount8(b)
	}
	return n
}

// String is ranges, such as 0-99,512, or bits behind a tilde where that is shorter.
func (s *buckets) String() string {
	var b []byte
	for first := 0; first < shard.Buckets; first++ {
		if !s.has(first) {
			continue
		}
		last := first
		for last+1 < shard.Buckets && s.has(last+1) {
			last++
		}
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(first), 10)
		if last > first {
			b = strconv.AppendInt(append(b, '-'), int64(last), 10)
		}
		first = last
	}
	if len(b) > base64.RawURLEncoding.EncodedLen(len(s)) {
		return "~" + base64.RawURLEncoding.EncodeToString(s[:])
	}
	return string(b)
}

var errBuckets = errors.New("no buckets")

// parseBuckets reads what String wrote; that is never none.
func parseBuckets(text string) (s buckets, err error) {
	if raw, ok := strings.CutPrefix(text, "~"); ok {
		b, err := base64.RawURLEncoding.DecodeString(raw)
		if err != nil || len(b) != len(s) || buckets(b) == (buckets{}) {
			return s, errBuckets
		}
		return buckets(b), nil
	}
	next := 0
	for item := range strings.SplitSeq(text, ",") {
		low, high, span := strings.Cut(item, "-")
		first, err := strconv.ParseUint(low, 10, 12)
		last := first
		if span && err == nil {
			last, err = strconv.ParseUint(high, 10, 12)
		}
		if err != nil || int(first) < next || last < first {
			return s, errBuckets
		}
		for b := int(first); b <= int(last); b++ {
			s[b/8] |= 1 << (b % 8)
		}
		next = int(last) + 1
	}
	return s, nil
}
