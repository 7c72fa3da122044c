package load

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in          string
		status      int
		head, total int
		err         error
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, 38, 40, nil},
		{"HTTP/1.1 200 OK\r\nX: y\r\ncontent-length:2\r\n\r\nhi", 200, 43, 45, nil},
		{"HTTP/1.1 200 OK\r\nX-Content-Length: 9\r\nCONTENT-LENGTH:  0\r\n\r\n", 200, 60, 60, nil},
		{"HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", 304, 40, 40, nil},
		{"HTTP/1.1 204 No Content\r\n\r\n", 204, 27, 27, nil},
		{"HTTP/1.1 200 OK\r\n\r\n", 200, 0, 0, errLength},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, 0, 0, errLength},
		{"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 503, 0, 0, errClose},
		{"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", 0, 0, 0, errHead},
		{"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", 0, 0, 0, errHead},
		{"SSH-2.0-OpenSSH\r\n", 0, 0, 0, errHead},
		{"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 65<<10), 0, 0, 0, errHead},
	} {
		r, whole, err := parse([]byte(c.in))
		if err != c.err {
			t.Errorf("%.60q: %v, not %v", c.in, err, c.err)
			continue
		}
		if err != nil {
			continue
		}
		if !whole || r.status != c.status || r.head != c.head || r.total != c.total {
			t.Errorf("%.60q: %+v, whole %t", c.in, r, whole)
		}
		for i := range c.in {
			if i < c.total {
				if _, whole, err := parse([]byte(c.in[:i])); whole || err != nil {
					t.Errorf("%.60q: the first %d bytes: whole %t, %v", c.in, i, whole, err)
				}
			}
		}
	}
}
