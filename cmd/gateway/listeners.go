package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/internal/listen"
)

// A listener is an address that is served.
type listener struct {
	address string // as configured
	server  *listen.Server
	done    chan struct{} // closed when Run has returned

	credentials atomic.Pointer[credentials] // for metrics; nil without TLS
}

// A change is what a new setup makes of the listeners: bound already, so that
// it can no longer fail.
type change struct {
	next   *setup
	opened []*listener
	admin  *adminListener // nil: as before
}

// bind opens what next has and the gateway has not. On an error nothing stays
// open.
func (g *gateway) bind(next *setup) (*change, error) {
	c := &change{next: next}
	g.letGo()
	var faults []error
	for i, l := range next.file.Listeners {
		if g.listeners[l.Address] != nil {
			continue
		}
		opened, err := g.open(next, i)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		c.opened = append(c.opened, opened)
	}
	if addr := next.file.Admin.Address; addr != "" && (g.admin == nil || g.admin.address != addr) {
		admin, err := g.openAdmin(addr)
		if err != nil {
			faults = append(faults, err)
		}
		c.admin = admin
	}
	if err := errors.Join(faults...); err != nil {
		c.abandon()
		return nil, err
	}
	return c, nil
}

// letGo waits, for moments, until the listeners that were removed have let go of
// their addresses: one of them may be back.
func (g *gateway) letGo() {
	for _, l := range g.removed {
		select {
		case <-l.server.Left():
		case <-l.done:
		}
	}
	g.removed = nil
}

// abandon closes what bind opened.
func (c *change) abandon() {
	for _, l := range c.opened {
		_ = l.server.Shutdown(context.Background()) // it has served nobody
	}
	if c.admin != nil {
		c.admin.ln.Close()
	}
}

func (g *gateway) open(next *setup, i int) (*listener, error) {
	address := next.file.Listeners[i].Address
	server, err := listen.New(limits(next, i), g.handlers(), g.log)
	if err == nil {
		err = server.Bind()
	}
	if err != nil {
		return nil, g.cannotListen(address, err)
	}
	l := &listener{address: address, server: server, done: make(chan struct{})}
	l.credentials.Store(next.credentials[i])
	return l, nil
}

// commit serves what bind opened and drains what the setup no longer has.
func (g *gateway) commit(c *change) {
	for _, l := range c.opened {
		g.listeners[l.address] = l
		g.serve(l)
	}
	for address, l := range g.listeners {
		i := slices.IndexFunc(c.next.file.Listeners, func(l Listener) bool { return l.Address == address })
		if i < 0 {
			delete(g.listeners, address)
			g.removed = append(g.removed, l)
			g.leaving.Go(func() { g.drop(l, c.next) })
			continue
		}
		l.use(c.next, i)
	}
	g.publish()
	g.commitAdmin(c)
}

func (g *gateway) serve(l *listener) {
	g.log.Info("listening", "listener", l.address, "address", l.server.Addr().String())
	g.wg.Go(func() {
		defer close(l.done)
		if err := l.server.Run(g.life); err != nil && g.life.Err() == nil {
			g.fail(fmt.Errorf("the listener %s failed: %w", l.address, err))
		}
	})
}

// drop drains a listener that the configuration no longer has.
func (g *gateway) drop(l *listener, s *setup) {
	ctx, cancel := context.WithTimeout(g.life, s.file.Shutdown.Timeout)
	defer cancel()
	if err := l.server.Shutdown(ctx); err != nil {
		g.log.Warn("connections of a removed listener were closed", "listener", l.address, "error", err)
	}
	<-l.done
	g.log.Info("no longer listening", "listener", l.address)
}

// publish tells the metrics which listeners there are.
func (g *gateway) publish() {
	list := slices.SortedFunc(maps.Values(g.listeners), func(a, b *listener) int {
		return strings.Compare(a.address, b.address)
	})
	g.serving.Store(&list)
}

// drain ends all listeners; exchanges may finish until ctx is done.
func (g *gateway) drain(ctx context.Context) error {
	g.mu.Lock() // a reload that began before the drain ends first
	list := *g.serving.Load()
	clear(g.listeners)
	g.mu.Unlock()
	faults := make([]error, len(list))
	var wg sync.WaitGroup
	for i, l := range list {
		wg.Go(func() {
			faults[i] = l.server.Shutdown(ctx)
			<-l.done
		})
	}
	wg.Wait()
	g.leaving.Wait() // each has a time of its own, which began earlier
	return errors.Join(faults...)
}

// writeConnections writes sluice_connections, and what else listeners count.
func (g *gateway) writeConnections(w io.Writer) {
	list := g.serving.Load()
	if list == nil {
		return
	}
	most := uint64(g.current.Load().file.Server.MaxConnections)
	for _, l := range *list {
		metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_connections_max{listener=%q}", l.address), most)
		s := l.server.Stats()
		write := func(state string, n int64) {
			metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_connections{listener=%q,state=%q}", l.address, state), uint64(n))
		}
		write("new", s.New)
		write("handshake", s.Shaking)
		write("idle", s.Idle)
		write("active", s.Active)
		write("upgraded", s.Raw)
		write("closing", s.Closing)
		for i, n := range l.server.Refused() {
			metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_connections_refused_total{listener=%q,reason=%q}", l.address, listen.Refusals[i]), uint64(n))
		}
		l.writeTLS(w, time.Now())
		metrics.WriteGaugeUint64(w, fmt.Sprintf("sluice_http2_connections{listener=%q}", l.address), uint64(s.HTTP2))
		for i, n := range l.server.Abuses() {
			metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_http2_abuse_total{listener=%q,reason=%q}", l.address, listen.H2Abuses[i]), uint64(n))
		}
	}
}

// limits is what listen is told of listener i of a setup.
func limits(next *setup, i int) listen.Config {
	l, s := next.file.Listeners[i], next.file.Server
	cfg := listen.Config{
		Address:             l.Address,
		MaxHeaderBytes:      s.MaxHeaderBytes,
		HeaderTimeout:       s.HeaderTimeout,
		IdleTimeout:         s.IdleTimeout,
		WriteStall:          s.WriteTimeout,
		MinBodyRate:         s.MinBodyRate,
		MaxConnections:      s.MaxConnections,
		MaxConnectionsPerIP: s.MaxConnectionsPerIP,
		HTTP2:               slices.ContainsFunc(l.Protocols, func(p string) bool { return p == "h2" || p == "h2c" }),
		RedirectHTTPS:       l.RedirectHTTPS,
		HSTS:                l.HSTS,
		OnlyHTTP2:           !slices.Contains(l.Protocols, "http1"),
	}
	if c := next.credentials[i]; c != nil {
		cfg.TLS = c.tls
	}
	return cfg
}

// cannotListen says why an address cannot be listened on, and its name once.
func (g *gateway) cannotListen(address string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "; " + g.holder(address)
	case errors.Is(err, syscall.EACCES):
		hint = "; ports below 1024 need a privilege"
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		err = sys.Err
	}
	return fmt.Errorf("cannot listen on %s: %w%s", address, err, hint)
}

// holder says who has the port of an address.
func (g *gateway) holder(address string) string {
	own := slices.Collect(maps.Keys(g.listeners))
	if g.admin != nil {
		own = append(own, g.admin.address)
	}
	_, port, _ := net.SplitHostPort(address)
	for _, other := range own {
		if _, p, _ := net.SplitHostPort(other); p == port {
			return "this gateway listens on " + other + ", and a port moves only with a restart"
		}
	}
	return "something else listens there"
}
