package sqlite_test

import (
	"context"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/sqlite"
	"github.com/sluice-edge/sluice/internal/users/storetest"
)

type place struct{ far bool }

func (p place) Home(email, region string) int {
	if p.far {
		return int(crc32.ChecksumIEEE([]byte(region))) & 4095
	}
	return p.Claim(email)
}
func (place) Claim(email string) int { return int(crc32.ChecksumIEEE([]byte(email))) & 4095 }
func (place) Shard(bucket int) int   { return bucket & 3 }
func (place) NewID(bucket int, now time.Time) string {
	ms := now.UnixMilli()
	return fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", ms>>16, ms&0xffff, bucket, rand.Uint32()&0xfff, rand.Uint64()&0xffffffffffff)
}
func (place) BucketOf(id string) (int, bool) {
	if len(id) != 36 {
		return 0, false
	}
	n, err := strconv.ParseUint(id[15:18], 16, 16)
	return int(n), err == nil
}

func open(t *testing.T, dir string, p sqlite.Placement) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(context.Background(), sqlite.Config{Dir: dir, Shards: []string{"s1", "s2", "s3", "s4"}, Layout: "test", Place: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	for _, p := range []place{{false}, {true}} {
		t.Run(fmt.Sprintf("far=%v", p.far), func(t *testing.T) {
			storetest.Run(t, func(t *testing.T) users.Store { return open(t, t.TempDir(), p) })
		})
	}
}
