package service

import (
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/jobs"
)

// TestFixCacheLate is done with what has expired by itself, and with nothing else
// where there is no Redis.
func TestFixCacheLate(t *testing.T) {
	o := new(jobsOf)
	late := jobs.CacheFix{User: "u", Version: 2, Until: time.Now().Add(-time.Second)}
	if err := o.fixCache(t.Context(), jobs.Job{}, late); err != nil {
		t.Error(err)
	}
	late.Until = time.Now().Add(time.Minute)
	if o.fixCache(t.Context(), jobs.Job{}, late) == nil {
		t.Error("it repaired what it does not know")
	}
}
