package load

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// numbers are users whose ID is their number.
type numbers int

func (n numbers) Len() int { return int(n) }

func (n numbers) AppendRead(b []byte, i int) []byte {
	return fmt.Appendf(b, "GET /%d HTTP/1.1\r\nHost: test\r\n\r\n", i)
}

func (n numbers) AppendWrite(b []byte, i int, value uint64) []byte {
	body := fmt.Sprint(value)
	return fmt.Appendf(b, "PUT /%d HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n%s", i, len(body), body)
}

func (n numbers) Check(i int, write bool, status int, head, body []byte) string {
	if status != 200 {
		return fmt.Sprintf("status %d", status)
	}
	if string(body) != fmt.Sprintf("/%d", i) {
		return "the answer is of another user"
	}
	return ""
}

// serve answers requests on loopback until the test is over.
func serve(t *testing.T, answer func(r *http.Request) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var conns sync.Map
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, nil)
			wg.Go(func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					text := answer(r)
					if text == "" {
						return
					}
					_ = r.Body.Close()
					_, _ = c.Write([]byte(text))
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return l.Addr().String()
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func dial(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := Dial(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestClient: what the client says it did is what the server saw.
func TestClient(t *testing.T) {
	var reads, writes atomic.Int64
	values := sync.Map{}
	addr := serve(t, func(r *http.Request) string {
		if r.Method == "PUT" {
			writes.Add(1)
			line, _ := bufio.NewReader(r.Body).ReadString('\n')
			if _, twice := values.LoadOrStore(line, true); twice {
				t.Errorf("the value %s was written twice", line)
			}
		} else {
			reads.Add(1)
		}
		return ok(r.URL.Path)
	})
	for _, threads := range []int{1, 3} {
		c := dial(t, Config{Address: addr, Connections: 10, Threads: threads, Population: numbers(1000), Mix: Mix{Writes: 0.3, Skew: 0.99, Seed: uint64(threads)}})
		values.Clear()
		for range 2 { // the second run goes on with the connections of the first
			reads.Store(0)
			writes.Store(0)
			r := c.Run(context.Background(), 100*time.Millisecond)
			if r.Failed() != 0 {
				t.Fatal(r.Failures())
			}
			answered := int(reads.Load() + writes.Load())
			if late := answered - r.Requests; r.Requests < 10 || late < 0 || late > 10 {
				t.Errorf("%d requests by the client, %d by the server", r.Requests, answered)
			}
			if r.Latency.TotalCount() != int64(answered) || r.Reads.TotalCount() != reads.Load() {
				t.Errorf("%d latencies, %d of reads, for %d requests, %d reads", r.Latency.TotalCount(), r.Reads.TotalCount(), answered, reads.Load())
			}
			if late := int(writes.Load()) - r.Writes; late < 0 || late > 10 || r.Writes == 0 {
				t.Errorf("%d writes by the client, %d by the server", r.Writes, writes.Load())
			}
			if sent := c.Sent(); sent > int64(r.Requests) || int64(r.Requests)-sent >= 64*3 {
				t.Errorf("Sent says %d of %d", sent, r.Requests)
			}
		}
	}
}

// TestWalk: a walk reads every user once, whatever the number of connections, and
// a load goes on after it.
func TestWalk(t *testing.T) {
	var seen sync.Map
	addr := serve(t, func(r *http.Request) string {
		n, _ := seen.LoadOrStore(r.Method+r.URL.Path, new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
		return ok(r.URL.Path)
	})
	for _, c := range []Config{{Connections: 1}, {Connections: 7, Threads: 2}, {Connections: 200}} {
		c.Address, c.Population, c.Mix = addr, numbers(101), Mix{Writes: 0.5, Skew: 0.99}
		client := dial(t, c)
		for range 2 {
			seen.Clear()
			if r := client.Walk(context.Background(), time.Minute); r.Failed() > 0 || r.Requests != 101 || r.Writes != 0 {
				t.Fatalf("%d requests, %d writes; %s", r.Requests, r.Writes, r.Failures())
			}
			for i := range 101 {
				if n, ok := seen.Load(fmt.Sprintf("GET/%d", i)); !ok || n.(*atomic.Int64).Load() != 1 {
					t.Fatalf("user %d was not read once", i)
				}
			}
		}
		if r := client.Run(context.Background(), 20*time.Millisecond); r.Failed() > 0 || r.Latency.TotalCount() == 0 {
			t.Errorf("after it: %d requests; %s", r.Latency.TotalCount(), r.Failures())
		}
	}
}

// TestLatency: an answer that is held back for 20 ms has taken that long.
func TestLatency(t *testing.T) {
	addr := serve(t, func(r *http.Request) string {
		<-time.After(20 * time.Millisecond)
		return ok(r.URL.Path)
	})
	c := dial(t, Config{Address: addr, Connections: 2, Population: numbers(10), Mix: Mix{Skew: 0.99}})
	r := c.Run(context.Background(), 150*time.Millisecond)
	if r.Failed() > 0 || r.Requests == 0 || r.Latency.ValueAtQuantile(0) < 19_900 {
		t.Errorf("%d requests, the fastest in %d µs; %s", r.Requests, r.Latency.ValueAtQuantile(0), r.Failures())
	}
	if most := 2 * 150 / 20; r.Requests > most {
		t.Errorf("%d requests, where two connections can have %d", r.Requests, most)
	}
}

// TestErrors: each kind is counted, and named.
func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		want   string
	}{
		"a status":         {"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "status 503"},
		"another's answer": {ok("/nobody"), "the answer is of another user"},
		"a closed one":     {"", "the server closed a connection"},
		"no length":        {"HTTP/1.1 200 OK\r\n\r\n", errLength.Error()},
		"said to close":    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", errClose.Error()},
		"too much":         {ok("/0") + "x", "more bytes than Content-Length says"},
		"half":             {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "no answer within"},
		"no HTTP":          {"220 smtp.example.com ESMTP\r\n", errHead.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serve(t, func(*http.Request) string { return c.answer })
			client := dial(t, Config{Address: addr, Connections: 3, Population: numbers(1), Mix: Mix{Skew: 0.99}, Timeout: 300 * time.Millisecond})
			r := client.Run(context.Background(), 50*time.Millisecond)
			if r.Failed() < 3 || !strings.Contains(r.Failures(), c.want) {
				t.Errorf("%d errors: %q, not %q", r.Failed(), r.Failures(), c.want)
			}
		})
	}
}

// TestStopped: a load ends with its context.
func TestStopped(t *testing.T) {
	addr := serve(t, func(r *http.Request) string { return ok(r.URL.Path) })
	c := dial(t, Config{Address: addr, Connections: 2, Population: numbers(10), Mix: Mix{Skew: 0.99}})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if r := c.Run(ctx, time.Hour); r.Failed() > 0 || r.Took > time.Minute || time.Since(began) > time.Minute {
		t.Errorf("%v, %s", r.Took, r.Failures())
	}
}
