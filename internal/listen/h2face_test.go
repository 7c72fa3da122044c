package listen

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// face has a handler of net/http serve streams, as far as tests need that.
func face(h http.Handler) func(*Stream) {
	return func(st *Stream) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		canceler := cancelContext(cancel)
		st.Attach(canceler)
		defer st.Detach()
		r := &http.Request{
			Method: st.Method(), RequestURI: st.Target(), Host: st.Authority(), Proto: "HTTP/2.0", ProtoMajor: 2,
			Header: http.Header{}, ContentLength: st.Length(), Body: faceBody{st}, TLS: st.TLS(),
		}
		r.URL, _ = url.ParseRequestURI(st.Target()) // it has been vetted
		for i := 0; ; i++ {
			name, value, ok := st.Field(i)
			if !ok {
				break
			}
			r.Header.Add(name, value)
		}
		w := &faceWriter{st: st, header: http.Header{}}
		h.ServeHTTP(w, r.WithContext(ctx))
		w.end()
	}
}

type cancelContext context.CancelFunc

func (c cancelContext) Cancel(error) { c() }

type faceBody struct{ st *Stream }

func (b faceBody) Read(p []byte) (int, error) { return b.st.Read(p) }

func (b faceBody) Close() error {
	b.st.Interrupt()
	return nil
}

// A faceWriter keeps what is small until the end.
type faceWriter struct {
	st     *Stream
	header http.Header
	status int
	sent   bool
	held   []byte
}

func (w *faceWriter) Header() http.Header { return w.header }

func (w *faceWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *faceWriter) begin() {
	w.WriteHeader(200)
	w.st.Begin(w.status)
	for name, values := range w.header {
		for _, value := range values {
			if !strings.HasPrefix(name, http.TrailerPrefix) {
				w.st.Add([]byte(name), []byte(value))
			}
		}
	}
	w.sent = true
}

func (w *faceWriter) Write(p []byte) (int, error) {
	if !w.sent && len(w.held)+len(p) <= 4096 {
		w.held = append(w.held, p...)
		return len(p), nil
	}
	if err := w.FlushError(); err != nil {
		return 0, err
	}
	return w.st.Write(p)
}

func (w *faceWriter) FlushError() error {
	if w.sent {
		return nil
	}
	w.begin()
	return w.st.Send(w.held, false)
}

func (w *faceWriter) Flush() { _ = w.FlushError() }

func (w *faceWriter) SetReadDeadline(t time.Time) error { return w.st.SetReadDeadline(t) }

func (w *faceWriter) end() {
	if !w.sent {
		w.begin()
		_ = w.st.Send(w.held, true) // the client may be gone
		return
	}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			w.st.Add([]byte(name), []byte(values[0]))
		}
	}
	_ = w.st.End() // as above
}
