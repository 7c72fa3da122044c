package health

import (
	"crypto/tls"
	"errors"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"
)

// wantFields compares the places of all faults that err joins.
func wantFields(t *testing.T, err error, want ...string) {
	t.Helper()
	wanted := map[string]bool{}
	for _, field := range want {
		if field != "" {
			wanted[field] = true
		}
	}
	got := map[string]bool{}
	if err != nil {
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			t.Fatalf("%v joins nothing", err)
		}
		for _, one := range joined.Unwrap() {
			var f *FieldError
			if !errors.As(one, &f) || f.Unwrap() == nil || f.Error() != f.Field()+": "+f.Err.Error() {
				t.Fatalf("%v is no FieldError", one)
			}
			got[f.Field()] = true
		}
	}
	if !maps.Equal(got, wanted) {
		t.Errorf("faults of %v, want %v: %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(wanted)), err)
	}
}

// noMoreGoroutines waits until as many goroutines are left as there were; those
// of net/http's connections end a moment after the connections.
func noMoreGoroutines(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before there were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		runtime.Gosched()
	}
}

func newTLS() *tls.Config { return new(tls.Config) }
