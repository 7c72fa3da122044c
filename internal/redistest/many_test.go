package redistest_test

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/redistest"
)

func TestFailover(t *testing.T) {
	master := redistest.Start(t)
	replica := redistest.StartReplica(t, master)
	redistest.StartSentinel(t, "m", master)
	if replica.IsMaster() {
		t.Error("the replica is a master from the begin")
	}
	master.Kill()
	for late := time.After(30 * time.Second); !replica.IsMaster(); {
		select {
		case <-late:
			t.Fatal("the replica does not become the master")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestCluster(t *testing.T) {
	for _, s := range redistest.StartCluster(t) {
		if n := s.Keys("*"); n != 0 {
			t.Errorf("%d keys in a new cluster", n)
		}
	}
}
