package main_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// A shelf is an origin with a version of each of its books, which says the
// current one, and takes a new one in with each POST.
type shelf struct {
	url   string
	books [12]atomic.Int64
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
		if err != nil || n >= len(s.books) {
			w.WriteHeader(404)
			return
		}
		if r.Method == "POST" {
			fmt.Fprint(w, s.books[n].Add(1))
			return
		}
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("Surrogate-Key", fmt.Sprintf("book-%d", n))
		fmt.Fprint(w, s.books[n].Load())
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func sharing(s *shelf, redis string) string {
	return fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
server: {header_timeout: 1m} # a visitor may wait long with his first request
shutdown: {grace: 0s}
access_log: {enabled: false}
redis: {addresses: [%q], timeout: 50ms}
cache: {memory: 16MiB, redis: {enabled: true}, purge_from: ["127.0.0.1"]}
backends: {shelf: {targets: [%q]}}
routes: [{name: books, match: /*, backend: shelf, cache: {stale_if_error: 1h, stale_while_revalidate: 0s}}]
`, redis, s.url)
}

// A reader is a gateway, and what it may show: least is, of each book, the oldest
// version that a request which begins from then on may get.
type reader struct {
	*child
	least [12]atomic.Int64
}

// raise moves least on, never back.
func (r *reader) raise(book int, version int64) {
	for {
		old := r.least[book].Load()
		if old >= version || r.least[book].CompareAndSwap(old, version) {
			return
		}
	}
}

// A library is two gateways over one Redis, and who uses them.
type library struct {
	*shelf
	readers [2]*reader
	stop    chan struct{}
	wg      sync.WaitGroup
	fault   chan error

	hits, shared, misses, everywhere, here atomic.Int64
}

// use runs f over and over, each time after a pause, until the library closes.
func (l *library) use(pause time.Duration, f func() error) {
	l.wg.Go(func() {
		pace := time.NewTicker(pause)
		defer pace.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-pace.C:
			}
			if err := f(); err != nil {
				select {
				case l.fault <- err:
				default:
				}
				return
			}
		}
	})
}

// A visitor is a client with a connection of its own.
type visitor struct {
	conn net.Conn
	r    *bufio.Reader
}

func visit(t *testing.T, c *child) *visitor {
	conn := connect(t, c.addresses[0])
	return &visitor{conn, bufio.NewReader(conn)}
}

// ask returns what the gateway answers: status, content, and where that is from.
func (v *visitor) ask(method, path string) (status int, body, from string, err error) {
	if _, err = fmt.Fprintf(v.conn, "%s %s HTTP/1.1\r\nHost: library\r\nContent-Length: 0\r\n\r\n", method, path); err != nil {
		return 0, "", "", err
	}
	resp, err := http.ReadResponse(v.r, nil)
	if err != nil {
		return 0, "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header.Get("Cache-Status"), err
}

// read gets a book, which must not be older than it may be.
func (l *library) read(v *visitor, r *reader, book int) (version int64, err error) {
	least := r.least[book].Load() // before the request begins
	status, body, from, err := v.ask("GET", fmt.Sprintf("/%d", book))
	if err != nil {
		return 0, err
	}
	version, err = strconv.ParseInt(body, 10, 64)
	switch {
	case status != 200 || err != nil:
		return 0, fmt.Errorf("book %d: status %d, %q", book, status, body)
	case version < least:
		return 0, fmt.Errorf("book %d: version %d (%s) after %d had come in and the one before was purged", book, version, from, least)
	case strings.Contains(from, "detail=shared"):
		l.shared.Add(1)
	case strings.Contains(from, "; hit"):
		l.hits.Add(1)
	default:
		l.misses.Add(1)
	}
	return version, nil
}

// replace has a new version come in and the one before purged, by one of the ways
// there are, and sees to it that it is not to be seen any more: by this gateway
// from when it says so, by the other soon, and from when that is so.
func (l *library) replace(v, other *visitor, way, at int) error {
	book := rand.IntN(len(l.books))
	path := fmt.Sprintf("/%d", book)
	version, everywhere := l.books[book].Add(1), false
	var err error
	switch way % 4 {
	case 0, 1:
		order := map[string]string{"url": "http://library" + path}
		if way%4 == 1 {
			order = map[string]string{"tag": fmt.Sprintf("book-%d", book)}
		}
		var said struct{ Everywhere bool }
		status, fault := call("POST", "http://"+l.readers[at].admin+"/api/cache/purge", order, &said)
		if err = fault; err == nil && status != 200 {
			err = fmt.Errorf("the admin API answers %d", status)
		}
		everywhere = said.Everywhere
	case 2:
		var said struct{ Everywhere bool }
		status, body, _, fault := v.ask("PURGE", path)
		if err = errors.Join(fault, json.Unmarshal([]byte(body), &said)); err == nil && status != 200 && status != 202 {
			err = fmt.Errorf("PURGE is answered with %d", status)
		}
		everywhere = said.Everywhere
	case 3: // which counts one on
		var body string
		_, body, _, err = v.ask("POST", path)
		if err == nil {
			version, err = strconv.ParseInt(body, 10, 64)
		}
	}
	if err != nil {
		return err
	}
	l.readers[at].raise(book, version)
	if everywhere {
		l.everywhere.Add(1)
	} else {
		l.here.Add(1)
	}
	if _, err := l.read(v, l.readers[at], book); err != nil {
		return fmt.Errorf("at once: %w", err)
	}
	err = waitFor(func() error {
		got, err := l.read(other, l.readers[1-at], book)
		if err == nil && got < version {
			err = fmt.Errorf("the other gateway goes on with version %d of book %d, though %d has come in (everywhere: %v)", got, book, version, everywhere)
		}
		return err
	})
	l.readers[1-at].raise(book, version)
	return err
}

// step waits until purges have gone on: so many that Redis took, or some that it
// did not.
func (l *library) step(t *testing.T) {
	t.Helper()
	everywhere, here := l.everywhere.Load(), l.here.Load()
	check(t, waitFor(func() error {
		select {
		case err := <-l.fault:
			t.Fatal(err)
		default:
		}
		if l.everywhere.Load() < everywhere+10 && l.here.Load() < here+6 {
			return errors.New("purges do not go on")
		}
		return nil
	}))
}

// TestE2ECachePurges: two gateways over one Redis hold what they say of purges,
// under load, while Redis hangs, dies, loses what it has, comes back, and cannot be
// reached by one of them.
func TestE2ECachePurges(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	wire := redistest.NewWire(t, redis.Address)
	l := &library{shelf: newShelf(t), stop: make(chan struct{}), fault: make(chan error, 1)}
	for i, address := range []string{redis.Address, wire.Address} {
		c, _ := startChild(t, sharing(l.shelf, address), "")
		l.readers[i] = &reader{child: c}
		check(t, waitFor(func() error { return l.readsLog(c) }))
	}
	for at, r := range l.readers {
		for range 3 {
			v := visit(t, r.child)
			l.use(2*time.Millisecond, func() error {
				_, err := l.read(v, r, rand.IntN(len(l.books)))
				return err
			})
		}
		v, other, way := visit(t, r.child), visit(t, l.readers[1-at].child), at
		l.use(10*time.Millisecond, func() error {
			way++
			return l.replace(v, other, way, at)
		})
	}
	for _, interrupt := range []func(){
		func() {}, redis.Stop, redis.Continue, redis.Flush, redis.Kill, redis.Restart, wire.Cut, wire.Mend, redis.RestartWithData, redis.Stop, redis.Restart,
	} {
		interrupt()
		l.step(t)
	}
	close(l.stop)
	l.wg.Wait()
	select {
	case err := <-l.fault:
		t.Fatal(err)
	default:
	}
	t.Logf("%d hits, %d of them by Redis, %d misses; %d purges held everywhere when they were answered, %d here at first",
		l.hits.Load()+l.shared.Load(), l.shared.Load(), l.misses.Load(), l.everywhere.Load(), l.here.Load())
	if l.hits.Load() == 0 || l.everywhere.Load() == 0 || l.here.Load() == 0 {
		t.Error("something did not happen at all")
	}
	l.share(t)
	l.newcomer(t, redis.Address)
}

// readsLog reports whether the gateway shares what it has.
func (l *library) readsLog(c *child) error {
	status, body, err := adminGet(c, "/api/cache")
	var said struct {
		Purges struct{ Blind bool }
	}
	if err = errors.Join(err, json.Unmarshal([]byte(body), &said)); err == nil && (status != 200 || said.Purges.Blind) {
		err = fmt.Errorf("status %d: %s", status, body)
	}
	return err
}

// share sees to it that one gateway gets what another has stored: not right after a
// purge, when the other cannot say yet that it is newer than that.
func (l *library) share(t *testing.T) {
	a, b := visit(t, l.readers[0].child), visit(t, l.readers[1].child)
	check(t, waitFor(func() error {
		for _, one := range []struct {
			v  *visitor
			at int
		}{{a, 0}, {b, 1}} {
			if _, err := l.read(one.v, l.readers[one.at], 0); err != nil {
				return err
			}
		}
		if l.shared.Load() > 0 {
			return nil
		}
		_, err := call("POST", "http://"+l.readers[0].admin+"/api/cache/purge", map[string]bool{"all": true}, nil)
		return errors.Join(err, errors.New("nothing is shared"))
	}))
}

// newcomer starts a gateway over what the others have left in Redis: all purges
// have got there, so that it shows nothing old.
func (l *library) newcomer(t *testing.T, redis string) {
	for _, r := range l.readers {
		check(t, waitFor(func() error {
			_, body, err := adminGet(r.child, "/api/cache")
			var said struct{ Purges struct{ Waiting int } }
			if err = errors.Join(err, json.Unmarshal([]byte(body), &said)); err == nil && said.Purges.Waiting > 0 {
				err = fmt.Errorf("%d purges wait", said.Purges.Waiting)
			}
			return err
		}))
	}
	c, _ := startChild(t, sharing(l.shelf, redis), "")
	check(t, waitFor(func() error { return l.readsLog(c) }))
	r, v := &reader{child: c}, visit(t, c)
	for book := range l.books {
		r.raise(book, l.books[book].Load())
		for range 2 {
			_, err := l.read(v, r, book)
			check(t, err)
		}
	}
}

// TestE2ECachePurgeOutlivesReload: what a gateway could not tell the others, and has
// not been able to take out of Redis, is told by the cache that a reload has put in
// the place of the one that was asked.
func TestE2ECachePurgeOutlivesReload(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	wire := redistest.NewWire(t, redis.Address)
	l := &library{shelf: newShelf(t)}
	config := sharing(l.shelf, wire.Address)
	var path string
	for i, text := range []string{config, sharing(l.shelf, redis.Address)} {
		c, file := startChild(t, text, "")
		if l.readers[i] = (&reader{child: c}); i == 0 {
			path = file
		}
		check(t, waitFor(func() error { return l.readsLog(c) }))
	}
	v, other := visit(t, l.readers[0].child), visit(t, l.readers[1].child)
	book := l.lend(t, redis, v, other)
	wire.Cut()
	_, _, _, err := v.ask("POST", fmt.Sprintf("/%d", book))
	check(t, err)
	l.readers[0].raise(book, 1)
	check(t, os.WriteFile(path, []byte(strings.Replace(config, "16MiB", "17MiB", 1)), 0o600))
	check(t, l.readers[0].cmd.Process.Signal(syscall.SIGHUP))
	check(t, waitFor(func() error {
		if !l.readers[0].logs("the settings of the cache have changed") {
			return errors.New("the reload leaves the cache as it was")
		}
		return nil
	}))
	check(t, waitFor(func() error { // whatever the old one still tried is over
		if l.readsLog(l.readers[0].child) == nil {
			return errors.New("it does not see that it is cut off")
		}
		return nil
	}))
	wire.Mend()
	check(t, waitFor(func() error { // the new cache gets to know what is in Redis
		return l.readsLog(l.readers[0].child)
	}))
	for range 3 {
		_, err := l.read(v, l.readers[0], book)
		check(t, err)
	}
	check(t, waitFor(func() error {
		version, err := l.read(other, l.readers[1], book)
		if err == nil && version < 1 {
			err = errors.New("the other gateway has not been told")
		}
		return err
	}))
}

// lend returns a book that the second gateway has from the first, by Redis. Redis
// need not get each of them: a write that takes too long on a busy machine is
// dropped.
func (l *library) lend(t *testing.T, redis *redistest.Server, v, other *visitor) (book int) {
	responses := func() int { return redis.Keys("sluice:sluice:*") }
	for book = range l.books {
		before := responses()
		_, err := l.read(v, l.readers[0], book)
		check(t, err)
		if waitFor(func() error {
			if responses() == before {
				return errors.New("Redis does not have it")
			}
			return nil
		}) != nil {
			continue
		}
		_, err = l.read(other, l.readers[1], book)
		check(t, err)
		if l.shared.Load() > 0 {
			return book
		}
	}
	t.Fatal("the second gateway finds nothing of what the first has stored")
	return 0
}
