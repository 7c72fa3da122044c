package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/internal/pgtest"
	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/postgres"
)

// A wire stands between a store and its server, and is cut where a test says.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	down  bool // nobody gets through
	mark  []byte
	after bool // cut when the server has answered; else before it has heard
	cuts  int
	open  map[net.Conn]bool
	wg    sync.WaitGroup
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to, open: map[net.Conn]bool{}}
	w.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.wg.Go(func() { w.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.set(true)
		w.wg.Wait()
	})
	return w
}

// set puts the wire down or up again.
func (w *wire) set(down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = down
	for c := range w.open {
		if down {
			c.Close()
		}
	}
}

// cut has the next connection that carries mark to the server end: before the
// server has heard it, or after it has answered.
func (w *wire) cut(mark string, after bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark, w.after = []byte(mark), after
}

func (w *wire) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer server.Close()
	w.mu.Lock()
	if w.down {
		w.mu.Unlock()
		return
	}
	w.open[client], w.open[server] = true, true
	w.mu.Unlock()
	ended := make(chan struct{})
	answered := make(chan struct{}) // closed: the next answer is not passed on
	go func() {
		defer close(ended)
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			select {
			case <-answered:
				client.Close()
				return
			default:
			}
			if err == nil {
				_, err = client.Write(buf[:n])
			}
			if err != nil {
				client.Close()
				return
			}
		}
	}()
	w.pump(client, server, answered)
	server.Close()
	<-ended
	w.mu.Lock()
	delete(w.open, client)
	delete(w.open, server)
	w.mu.Unlock()
}

func (w *wire) pump(client, server net.Conn, answered chan struct{}) {
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		hit := len(w.mark) > 0 && bytes.Contains(buf[:n], w.mark)
		after := w.after
		if hit {
			w.mark = nil
			w.cuts++
		}
		w.mu.Unlock()
		if hit && !after {
			return
		}
		if hit {
			close(answered)
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
		if hit {
			_, _ = io.Copy(io.Discard, client)
			return
		}
	}
}

// through is an address by way of a wire.
func through(t *testing.T, address string) (*wire, string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, u.Host)
	u.Host = w.listener.Addr().String()
	return w, u.String()
}

// TestCut loses the connection before and after the server has committed. What
// was done once is answered as done, and nothing is done twice.
func TestCut(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{})
	for _, strategy := range []string{"hash", "geo"} {
		shards := fresh(t, c, 3)
		wires := make([]*wire, 3)
		for i := range shards {
			wires[i], shards[i].Primary = through(t, shards[i].Primary)
		}
		s := open(t, postgres.Config{Shards: shards, Assigner: assigner(t, strategy, 3)})
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		arm := func(mark string, after bool) {
			for _, w := range wires {
				w.cut(mark, after)
			}
		}
		cuts := func() (n int) {
			for _, w := range wires {
				w.mu.Lock()
				n += w.cuts
				w.cuts, w.mark = 0, nil
				w.mu.Unlock()
			}
			return n
		}
		n := 0
		for round := range 6 {
			for _, keyed := range []bool{false, true} {
				n++
				u := users.User{Name: "Cut", Email: fmt.Sprintf("cut%d@example.com", n), Region: "us-east", Attributes: []byte("{}")}
				var once users.Once
				if keyed {
					once.Key = fmt.Sprint("key", n)
				}
				arm(u.Email, round%2 == 0)
				got, replayed, _, err := s.Create(ctx, u, once, "")
				if err != nil || replayed || got.Email != u.Email || got.Version != 1 {
					t.Fatalf("%s %d: created %+v, replayed %v: %v", strategy, n, got, replayed, err)
				}
				if cuts() == 0 {
					t.Errorf("%s %d: no connection was cut", strategy, n)
				}
				got.Name = fmt.Sprint("Renamed", n)
				arm(got.Name, round%2 == 0)
				changed, _, err := s.Replace(ctx, got, 1, "")
				if err != nil || changed.Version != 2 || changed.Name != got.Name {
					t.Fatalf("%s %d: replaced by %+v: %v", strategy, n, changed, err)
				}
				if cuts() != 1 {
					t.Errorf("%s %d: no connection was cut", strategy, n)
				}
			}
		}
		page, err := s.List(ctx, users.Query{Limit: 100}, users.Newest)
		if err != nil || len(page.Users) != n {
			t.Errorf("%s: %d users of %d: %v", strategy, len(page.Users), n, err)
		}
	}
}

// TestPartial lists while a shard is away, and goes on when it is back: also where
// what it has, and what the other has, moves before that.
func TestPartial(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{})
	for name, move := range map[string]bool{"stays": false, "moves": true} {
		t.Run(name, func(t *testing.T) { partial(t, c, move) })
	}
}

func partial(t *testing.T, c *pgtest.Cluster, move bool) {
	shards := fresh(t, c, 2)
	w, address := through(t, shards[1].Primary)
	shards[1].Primary = address
	set := metrics.NewSet()
	s := open(t, postgres.Config{Shards: shards, Assigner: assigner(t, "hash", 2), Metrics: set})
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	want := map[string]bool{}
	for i := range 40 {
		u, _, _, err := s.Create(ctx, users.User{Name: "P", Email: fmt.Sprintf("pp%d@example.com", i), Region: "eu", Attributes: []byte("{}")}, users.Once{}, "")
		if err != nil {
			t.Fatal(err)
		}
		want[u.ID] = true
	}
	w.set(true)
	var gone *users.Unavailable
	if _, err := s.List(ctx, users.Query{Limit: 5}, ""); !errors.As(err, &gone) {
		t.Fatalf("a list without a shard: %v", err)
	}
	count := map[string]int{}
	q := users.Query{Limit: 5, Partial: true}
	if move {
		q.Prefix, q.Region = "pp", "eu" // of all of them
	}
	for page := range 20 {
		if page == 12 { // the shard that answers is at its end by now
			w.set(false)
			wait(t, "the shard is back", func() bool {
				_, err := s.List(ctx, users.Query{Limit: 1}, "")
				return err == nil
			})
			if move {
				swap(t, ctx, s, want)
			}
		}
		got, err := s.List(ctx, q, "")
		if err != nil {
			t.Fatal(err)
		}
		if page < 12 && (len(got.Missing) != 1 || got.Missing[0] != "s2" || got.Next == "") {
			t.Fatalf("missing %v, next %q", got.Missing, got.Next)
		}
		for _, u := range got.Users {
			count[u.ID]++
		}
		if q.Cursor = got.Next; q.Cursor == "" {
			break
		}
	}
	for id := range want {
		if count[id] != 1 {
			t.Errorf("%s is on the list %d times", id, count[id])
		}
	}
	if q.Cursor != "" {
		t.Error("the list has no end")
	}
	var text bytes.Buffer
	set.WritePrometheus(&text)
	for _, name := range []string{
		`users_queries_total{shard="s1",role="primary",op="create"}`,
		`users_query_duration_seconds_bucket{shard="s1",role="primary",le="0.005"}`,
	} {
		if !strings.Contains(text.String(), name) {
			t.Errorf("no metric %s in\n%s", name, text.String())
		}
	}
}

// swap moves the buckets of every other user to the other of two shards.
func swap(t *testing.T, ctx context.Context, s *postgres.Store, ids map[string]bool) {
	c := s.Cluster()
	m := shard.NewMover(c)
	moved := map[shard.Bucket]bool{}
	for id := range ids {
		key, err := shard.ParseID(id)
		if err != nil {
			t.Fatal(err)
		}
		b := key.Bucket()
		if len(moved) == len(ids)/2 || moved[b] {
			continue
		}
		moved[b] = true
		if _, err := m.Move(ctx, b, c.Names()[1-c.Router().Lookup(b).Shard]); err != nil {
			t.Fatal(err)
		}
	}
}

func wait(t *testing.T, what string, ask func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ask() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
