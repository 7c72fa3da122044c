package listen

import (
	"net/http"
	"testing"
)

// A server whose share of the descriptors is used up says so to who comes, and
// closes connections that have been idle for long, but none that is in use.
func TestDescriptorsScarce(t *testing.T) {
	s := start(t, Config{}, Handlers{})
	idle, fresh := dial(t, s), dial(t, s)
	idle.send(get(""))
	idle.want(200, "GET / ")
	fresh.send("GET / HTTP/1.1\r\n") // a head on its way
	until(t, "both connections", func() bool { st := s.Stats(); return st.Idle == 1 && st.Active == 1 })

	for _, c := range s.conns.all() {
		c.since.Store(s.now() - 2*int64(evictAfter))
	}
	s.share.bound.Store(0) // no number is for clients any more

	late := dial(t, s)
	late.send(get(""))
	if res := late.want(http.StatusServiceUnavailable, ""); !res.Close || res.Header.Get("Retry-After") != "1" {
		t.Errorf("close %t, header %v", res.Close, res.Header)
	}
	late.wantEnd()
	idle.wantEnd()
	fresh.send("Host: a\r\n\r\n")
	fresh.want(200, "GET / ")
}
