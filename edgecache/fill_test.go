package edgecache

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

func newTestCache(t *testing.T, underway int64) *Cache {
	t.Helper()
	m, err := NewMemory(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Store: m, Underway: underway, Revalidations: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func keyed(text string) *Request {
	r := &Request{Method: "GET", Text: []byte(text), Key: KeyOf([]byte(text))}
	r.Read()
	return r
}

// Readers that come at any time, and read at any pace, all get all of it.
func TestFillReaders(t *testing.T) {
	for _, c := range []struct {
		name   string
		length int64
		limit  int64
		stored bool
	}{{"known", 1 << 20, 2 << 20, true}, {"unknown", -1, 2 << 20, true}, {"too large", -1, 64 << 10, false}} {
		t.Run(c.name, func(t *testing.T) {
			cache := newTestCache(t, 4<<20)
			want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
			f, lead := cache.Join(keyed("GET http://a/x"))
			if !lead {
				t.Fatal("somebody else leads")
			}
			var stored *Entry
			if !f.Keep(&Entry{Status: 200, Length: c.length}, c.limit, func(e *Entry) { stored = e }) {
				t.Fatal("there is no memory for it")
			}
			var wg sync.WaitGroup
			read := func(f *Fill, wait bool) {
				r := f.Reader(0, -1, nil)
				f.Leave()
				wg.Go(func() {
					defer r.Close()
					var got bytes.Buffer
					for b := make([]byte, 1000); wait && got.Len() < 100_000; {
						n, err := r.Read(b)
						got.Write(b[:n])
						if err != nil {
							break
						}
					}
					if _, err := r.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), want) {
						t.Errorf("%d bytes, %v", got.Len(), err)
					}
				})
			}
			read(f, false)
			for i := range 3 {
				other, lead := cache.Join(keyed("GET http://a/x"))
				if lead {
					t.Fatal("a second fetch")
				}
				read(other, i%2 == 0)
			}
			for rest := want; len(rest) > 0; {
				n := min(len(rest), 10_000)
				if _, err := f.Write(rest[:n]); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if got := f.Finish(nil); got != c.stored || (stored != nil) != c.stored {
				t.Errorf("stored: %v, %v", got, stored != nil)
			}
			wg.Wait()
			if c.stored && (!bytes.Equal(stored.Body, want) || stored.Length != int64(len(want))) {
				t.Errorf("%d bytes were stored", len(stored.Body))
			}
			if cache.Underway() != 0 {
				t.Errorf("%d bytes are still reserved", cache.Underway())
			}
		})
	}
}

// What breaks off is not stored, and those who read it hear of it.
func TestFillBreaks(t *testing.T) {
	cause := errors.New("gone")
	for _, c := range []struct {
		length int64
		err    error
		want   error
	}{{-1, cause, cause}, {100, nil, io.ErrUnexpectedEOF}} {
		cache := newTestCache(t, 1<<20)
		f, _ := cache.Join(keyed("GET http://a/x"))
		f.Keep(&Entry{Length: c.length}, 1<<20, func(*Entry) { t.Error("it was stored") })
		r := f.Reader(0, -1, nil)
		f.Write([]byte("half"))
		f.Finish(c.err)
		if b, err := io.ReadAll(r); string(b) != "half" || err != c.want {
			t.Errorf("%q, %v", b, err)
		}
		if _, lead := cache.Join(keyed("GET http://a/x")); !lead {
			t.Error("others still wait for it")
		}
	}
}

// Nothing is fetched for nobody, unless it is for the cache.
func TestFillForNobody(t *testing.T) {
	cache := newTestCache(t, 1<<20)
	f, _ := cache.Join(keyed("GET http://a/x"))
	f.Keep(&Entry{Length: -1}, 10, func(*Entry) { t.Error("it was stored") })
	r := f.Reader(0, -1, nil)
	f.Leave()
	if _, err := f.Write([]byte("123456")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("123456")); err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := f.Write([]byte("1")); err != ErrNobody {
		t.Errorf("writing for nobody: %v", err)
	}
}

// A writer that is far ahead waits, and goes on when the reader leaves.
func TestFillWaits(t *testing.T) {
	cache := newTestCache(t, 1<<20)
	f, _ := cache.Join(keyed("GET http://a/x"))
	f.Keep(&Entry{Length: -1}, 10, func(*Entry) { t.Error("it was stored") })
	r := f.Reader(0, -1, nil)
	f.Leave()
	ended := make(chan error, 1)
	go func() {
		piece := make([]byte, 64<<10)
		for {
			if _, err := f.Write(piece); err != nil {
				ended <- err
				return
			}
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); ; {
		f.mu.Lock()
		waits, held := f.drained != nil, len(f.data)
		f.mu.Unlock()
		if held > lag+64<<10 {
			t.Fatalf("%d bytes wait for the reader", held)
		}
		if waits {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it never waits")
		}
	}
	r.Close()
	if err := <-ended; err != ErrNobody {
		t.Error(err)
	}
}

// What is under way is bounded: beyond it, nothing is stored.
func TestFillBounded(t *testing.T) {
	cache := newTestCache(t, 1000)
	a, _ := cache.Join(keyed("GET http://a/a"))
	b, _ := cache.Join(keyed("GET http://a/b"))
	if !a.Keep(&Entry{Length: 600}, 1000, nil) {
		t.Fatal("the first has no room")
	}
	if b.Keep(&Entry{Length: 600}, 1000, nil) {
		t.Fatal("the second has room")
	}
	a.Fail(io.EOF)
	a.Fail(io.EOF) // twice does no harm
	if !b.Keep(&Entry{Length: 600}, 1000, nil) {
		t.Error("what the first had was not given back")
	}
}

// A fetch that is known to bring something else is not waited for.
func TestFillSelects(t *testing.T) {
	cache := newTestCache(t, 1<<20)
	asked := func(language string) *Request {
		r := keyed("GET http://a/x")
		r.Fields = lines("Accept-Language: " + language)
		r.Read()
		return r
	}
	f, _ := cache.Join(asked("de"))
	if _, lead := cache.Join(asked("en")); lead {
		t.Error("before its head it could be the same")
	}
	f.Keep(&Entry{Length: 5, Vary: "accept-language\x00=de\n"}, 1<<20, nil)
	if other, lead := cache.Join(asked("de")); lead || other != f {
		t.Error("the same is fetched twice")
	}
	if _, lead := cache.Join(asked("en")); !lead {
		t.Error("another variant is not fetched")
	}
}

// Lines of a stored head cannot be made by what an origin puts into a value.
func TestHeadHoldsLines(t *testing.T) {
	e := &Entry{}
	e.SetHead(&Response{Fields: []Field{{[]byte("A"), []byte("1\r\nB: 2\n\nC: 3")}, {[]byte("Date"), []byte("x")}}, ReceivedAt: noon})
	if strings.Contains(string(e.Head), "\nB") || strings.Contains(string(e.Head), "\nC") {
		t.Errorf("%q", e.Head)
	}
}
