package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/users"
)

// A Journal is clients who use a store while its servers are killed, hang and lag,
// and who write down every answer. Each changes users of its own and returns its
// newest token with each request; all sign up with addresses of the same few. No
// write that was acknowledged may be lost, no read under a token may be older than
// what it covers, and no address may belong to two.
type Journal struct {
	t       *testing.T
	stores  []users.Store // of several processes over the same shards
	clients []*client
	stop    context.CancelFunc
	running sync.WaitGroup
	answers atomic.Int64 // that were no failure
	refused atomic.Int64 // Unavailable
}

// contested is how many addresses all clients want.
const contested = 40

// StartJournal begins. It is ended by Check, or with the test.
func StartJournal(t *testing.T, clients int, stores ...users.Store) *Journal {
	ctx, stop := context.WithCancel(context.Background())
	j := &Journal{t: t, stores: stores, stop: stop}
	for i := range clients {
		c := &client{j: j, n: i, known: map[string]*entry{}}
		j.clients = append(j.clients, c)
		j.running.Go(func() { c.run(ctx) })
	}
	t.Cleanup(j.end)
	return j
}

func (j *Journal) end() {
	j.stop()
	j.running.Wait()
}

// Progress waits until every client has had n more answers.
func (j *Journal) Progress(n int64) {
	j.t.Helper()
	limit := time.After(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, c := range j.clients {
		for from := c.answers.Load(); c.answers.Load() < from+n; {
			select {
			case <-tick.C:
			case <-limit:
				j.t.Fatalf("client %d has had %d answers since, of %d", c.n, c.answers.Load()-from, n)
			}
			if j.t.Failed() {
				j.t.FailNow()
			}
		}
	}
}

// Refusals waits until n more requests were refused, as those are that need a
// server which is down.
func (j *Journal) Refusals(n int64) {
	j.t.Helper()
	limit := time.After(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for from := j.refused.Load(); j.refused.Load() < from+n; {
		select {
		case <-tick.C:
		case <-limit:
			j.t.Fatalf("%d requests were refused, of %d", j.refused.Load()-from, n)
		}
		if j.t.Failed() {
			j.t.FailNow()
		}
	}
}

// Check ends the clients and compares what is stored with what they wrote down.
// All servers run by now. It returns how many users there are.
func (j *Journal) Check() int {
	j.t.Helper()
	j.end()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	s := &suite{T: j.t, ctx: ctx, store: j.stores[0]}
	listed := map[string]users.User{}
	addresses := map[string]string{}
	for _, u := range s.pages(users.Query{Limit: 100}, users.Newest) {
		norm := s.normal(u.Email)
		if other, ok := addresses[norm]; ok {
			j.t.Errorf("%s belongs to %s and to %s", norm, other, u.ID)
		}
		if _, ok := listed[u.ID]; ok {
			j.t.Errorf("%s is listed twice", u.ID)
		}
		listed[u.ID], addresses[norm] = u, u.ID
		found, _, err := s.store.ByEmail(ctx, norm, users.Newest)
		if err != nil || found.ID != u.ID {
			j.t.Errorf("%s belongs to %s, and is looked up as %s: %v", norm, u.ID, found.ID, err)
		}
	}
	mine := 0
	for _, c := range j.clients {
		for id, e := range c.known {
			mine++
			u, ok := listed[id]
			if why := e.differs(u, ok); why != "" {
				j.t.Errorf("client %d: %s: %s", c.n, id, why)
			}
			delete(listed, id)
		}
		mine += c.unsure
	}
	if len(listed) > mine {
		j.t.Errorf("%d users that nobody has created", len(listed))
	}
	j.t.Logf("%d answers, %d refusals, %d users", j.answers.Load(), j.refused.Load(), len(addresses))
	return len(addresses)
}

// An entry is what a client knows of one user.
type entry struct {
	acked   users.User
	gone    bool        // its removal was acknowledged
	tried   *users.User // a change of which it is not known whether it was done
	leaving bool        // a removal likewise
}

// differs says how a user that is there, or is not, is not as it should be.
func (e *entry) differs(u users.User, there bool) string {
	switch {
	case e.gone && there:
		return "is there, though its removal was acknowledged"
	case e.gone || !there && e.leaving:
		return ""
	case !there:
		return fmt.Sprintf("is lost; version %d was acknowledged", e.acked.Version)
	case u.Version == e.acked.Version && u.Name == e.acked.Name && u.Email == e.acked.Email:
		return ""
	case e.tried != nil && u.Version == e.acked.Version+1 && u.Name == e.tried.Name && u.Email == e.tried.Email:
		return ""
	}
	return fmt.Sprintf("is version %d %q %s; version %d %q %s was acknowledged, and tried was %v",
		u.Version, u.Name, u.Email, e.acked.Version, e.acked.Name, e.acked.Email, e.tried)
}

// A client does one thing after another.
type client struct {
	j       *Journal
	n       int
	tok     users.Token
	known   map[string]*entry
	unsure  int // creates of which it is not known whether they were done
	serial  int
	answers atomic.Int64
}

func (c *client) run(ctx context.Context) {
	for ctx.Err() == nil && !c.j.t.Failed() {
		id, e := c.pick()
		switch what := rand.IntN(20); {
		case e == nil || what < 2 && len(c.known) < 100:
			c.create(ctx)
		case what == 2:
			c.remove(ctx, id, e)
		case what < 9:
			c.change(ctx, id, e)
		default:
			c.read(ctx, id, e)
		}
	}
}

// pick chooses a user that is there.
func (c *client) pick() (string, *entry) {
	for id, e := range c.known { // in no order
		if !e.gone && !e.leaving {
			return id, e
		}
	}
	return "", nil
}

func (c *client) store() users.Store { return c.j.stores[rand.IntN(len(c.j.stores))] }

// request bounds a call, and does not cut it short where the journal ends: what
// was sent is waited for.
func (c *client) request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

// refused reports whether an answer says that nothing can be said now. Any other
// error, but those that are expected, is a fault.
func (c *client) refused(what string, err error, expected ...error) bool {
	var u *users.Unavailable
	if errors.As(err, &u) {
		c.j.refused.Add(1)
		return true
	}
	for _, e := range expected {
		if errors.Is(err, e) {
			err = nil
		}
	}
	if err != nil {
		c.j.t.Errorf("client %d: %s: %v", c.n, what, err)
	}
	c.j.answers.Add(1)
	c.answers.Add(1)
	return err != nil
}

func (c *client) address() string {
	if rand.IntN(2) == 0 {
		return fmt.Sprintf("Wanted%d@Example.com", rand.IntN(contested))
	}
	c.serial++
	return fmt.Sprintf("client%d-%d@example.com", c.n, c.serial)
}

// create signs up, and asks again with its key for as long as nobody knows.
func (c *client) create(ctx context.Context) {
	c.serial++
	u := person(c.serial)
	u.Email = c.address()
	key := once(fmt.Sprintf("client%d-%d", c.n, c.serial), u.Email)
	sure := true
	for ctx.Err() == nil {
		req, cancel := c.request(ctx)
		got, _, seen, err := c.store().Create(req, u, key, c.tok)
		cancel()
		if c.refused("create", err, users.ErrEmailTaken) {
			sure = false
			pauseABit(ctx)
			continue
		}
		if err == nil {
			c.tok = seen
			c.known[got.ID] = &entry{acked: got}
		}
		return
	}
	if !sure {
		c.unsure++
	}
}

// pauseABit waits before something that failed is tried again.
func pauseABit(ctx context.Context) {
	timer := time.NewTimer(10 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (c *client) change(ctx context.Context, id string, e *entry) {
	if !c.settle(ctx, id, e) {
		return
	}
	c.serial++
	u := e.acked
	u.Name = fmt.Sprintf("Name %d", c.serial)
	if rand.IntN(3) == 0 {
		u.Email = c.address()
	}
	req, cancel := c.request(ctx)
	defer cancel()
	got, seen, err := c.store().Replace(req, u, u.Version, c.tok)
	switch {
	case c.refused("replace", err, users.ErrEmailTaken):
		e.tried = &u
		pauseABit(ctx)
	case err == nil:
		c.tok = seen
		if got.Version != u.Version+1 || got.Name != u.Name {
			c.j.t.Errorf("client %d: replaced version %d by %d %q", c.n, u.Version, got.Version, got.Name)
		}
		e.acked = got
	}
}

// settle finds out what has become of a change of which nobody knew. A change that
// is still on its way cannot be done after the next one, which expects a version.
func (c *client) settle(ctx context.Context, id string, e *entry) bool {
	if e.tried == nil {
		return true
	}
	req, cancel := c.request(ctx)
	defer cancel()
	got, _, err := c.store().Get(req, id, users.Newest)
	if c.refused("get the newest", err) || err != nil {
		pauseABit(ctx)
		return false
	}
	if why := e.differs(got, true); why != "" {
		c.j.t.Errorf("client %d: %s: %s", c.n, id, why)
		return false
	}
	if got.Version == e.acked.Version {
		return true // not done, so far
	}
	e.acked, e.tried = got, nil
	return true
}

func (c *client) remove(ctx context.Context, id string, e *entry) {
	if !c.settle(ctx, id, e) {
		return
	}
	req, cancel := c.request(ctx)
	defer cancel()
	version, seen, err := c.store().Delete(req, id, e.acked.Version, c.tok)
	var conflict *users.Conflict
	switch {
	case errors.As(err, &conflict) && e.tried != nil: // it was on its way
		c.answers.Add(1)
	case c.refused("delete", err):
		e.leaving = true
	default:
		c.tok, e.gone = seen, true
		if version != e.acked.Version+1 {
			c.j.t.Errorf("client %d: the removal of version %d counts as %d", c.n, e.acked.Version, version)
		}
	}
}

// read looks at a user under the client's token: what it shows is what the client
// wrote last, since nobody else writes there.
func (c *client) read(ctx context.Context, id string, e *entry) {
	req, cancel := c.request(ctx)
	defer cancel()
	var got users.User
	var err error
	what := "get"
	switch rand.IntN(4) {
	case 0:
		what = "look up"
		norm, _ := users.NormalEmail(e.acked.Email)
		if e.tried != nil {
			return // the address may be another by now
		}
		got, _, err = c.store().ByEmail(req, norm, c.tok)
		got.PasswordHash = ""
	default:
		got, _, err = c.store().Get(req, id, c.tok)
	}
	if c.refused(what+" "+id, err) {
		pauseABit(ctx)
		return
	}
	if why := e.differs(got, got.ID == id); why != "" {
		c.j.t.Errorf("client %d: %s under %s: %s %s", c.n, what, c.tok, id, why)
	}
}
