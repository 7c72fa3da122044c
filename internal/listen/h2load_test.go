package listen

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
)

// mirrorBody sends the request's body back while it comes.
func mirrorBody(st *Stream) {
	st.Begin(200)
	if st.Send(nil, false) != nil {
		return
	}
	if _, err := io.Copy(struct{ io.Writer }{st}, struct{ io.Reader }{st}); err != nil {
		return
	}
	_ = st.End() // the client tells
}

// Many streams of a few connections go both ways at once, and some are given up:
// each gets its own bytes, and none is left.
func TestManyStreams(t *testing.T) { ways2(t, testManyStreams) }

func testManyStreams(t *testing.T, way Config) {
	const clients, streams, rounds = 2, 20, 3
	s := start(t, way, Handlers{HTTP2: mirrorBody})
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	var wg sync.WaitGroup
	for range clients {
		client, url := browser(t, s)
		client.Timeout = 6 * patience // all of them take their share of a slow machine
		for range streams {
			wg.Go(func() {
				for range rounds {
					from := rand.IntN(len(random))
					body := random[from:min(from+rand.IntN(80<<10), len(random))]
					mirror(t, client, url, body, rand.IntN(8) == 0)
				}
			})
		}
		defer client.CloseIdleConnections()
	}
	wg.Wait()
	until(t, "no stream", func() bool { return s.Stats().Active == 0 })
	for _, c := range s.conns.all() {
		h := c.h2.Load()
		until(t, "no handler", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.handlers == 0
		})
		h.mu.Lock()
		if len(h.streams) > 0 || h.window+h.unsaid != h2ConnWindow || !h.out.waiting.none() {
			t.Errorf("%d streams are left, the window is %d and %d", len(h.streams), h.window, h.unsaid)
		}
		h.mu.Unlock()
	}
}

// mirror makes one request, or gives it up in the middle.
func mirror(t *testing.T, client *http.Client, url string, body []byte, giveUp bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return
	}
	res, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer res.Body.Close()
	if giveUp {
		_, _ = io.CopyN(io.Discard, res.Body, int64(len(body)/2)) // the rest is not wanted
		return
	}
	got, err := io.ReadAll(res.Body)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(body), err)
	}
}
