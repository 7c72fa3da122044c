package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/edgecache"
	"github.com/sluice-edge/sluice/internal/listen"
	"github.com/sluice-edge/sluice/internal/users/service"
	"github.com/sluice-edge/sluice/proxy"
	"github.com/sluice-edge/sluice/proxy/upstream"
)

// A gateway is a running Sluice: what outlives a reload, and the setup that is
// served now.
type gateway struct {
	read      func() (source, error)
	env       func(string) (string, bool)
	log       *slog.Logger
	proxy     *proxy.Proxy
	transport *upstream.Transport
	metrics   *metrics.Set

	hints    bool // tell a person what to try
	current  atomic.Pointer[setup]
	serving  atomic.Pointer[[]*listener] // for metrics
	draining atomic.Bool
	status   status
	reloads  struct{ ok, failed *metrics.Counter }
	renewal  renewal // under mu

	mu        sync.Mutex // held by a reload, and by who changes the listeners
	number    uint64     // of the last generation that was tried
	seen      [sha256.Size]byte
	listeners map[string]*listener
	removed   []*listener // by the last reload
	admin     *adminListener

	life    context.Context // of everything that runs
	wg      sync.WaitGroup  // of all other goroutines
	leaving sync.WaitGroup  // of those that drain a listener after a reload
	failed  chan error      // a listener that ended by itself
}

// newGateway returns a gateway that reads its configuration with read. It starts
// nothing.
func newGateway(p *program, read func() (source, error), env func(string) (string, bool)) (*gateway, error) {
	g := &gateway{
		read: read, env: env, log: p.logger(),
		metrics:   metrics.NewSet(),
		listeners: map[string]*listener{},
		failed:    make(chan error, 1),
	}
	px, transport, err := newProxy(p, g.log, g.metrics)
	if err != nil {
		return nil, err
	}
	g.proxy, g.transport = px, transport
	g.countThings()
	return g, nil
}

// newProxy returns a proxy with all kinds of backends, and its transport.
func newProxy(p *program, log *slog.Logger, set *metrics.Set) (*proxy.Proxy, *upstream.Transport, error) {
	transport := upstream.NewTransport()
	kinds := proxy.Kinds()
	kinds["users"] = usersKind(service.NewServices(set, log))
	px, err := proxy.New(proxy.Config{
		Kinds:     kinds,
		Transport: transport,
		Metrics:   set,
		AccessLog: p.out,
		Log:       log,
	})
	return px, transport, err
}

// reload reads the configuration again and serves by it, or goes on as before:
// nothing is ever half applied. Why says what asked for it, for the log.
func (g *gateway) reload(why string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining.Load() {
		return errors.New("the gateway is draining")
	}
	err := g.load()
	g.status.reloaded(err)
	if err != nil {
		g.reloads.failed.Inc()
		g.log.Error("reload failed; the running configuration stays",
			"why", why, "generation", g.current.Load().gen.Number(), "faults", faultLines(err))
		return err
	}
	g.reloads.ok.Inc()
	g.log.Info("reloaded", "why", why, "generation", g.number)
	return nil
}

// load makes the configuration as it is now the one that is served.
func (g *gateway) load() error {
	src, err := g.read()
	g.seen = sha256.Sum256(src.data) // of nothing where it cannot be read
	if err != nil {
		return err
	}
	old := g.current.Load()
	running := links{log: g.log}
	if old != nil {
		running = old.links
	}
	next, err := build(g.proxy, src, g.env, g.number+1, running)
	if err != nil {
		return err
	}
	if err := next.gen.Start(g.life); err != nil {
		next.drop(running)
		return err
	}
	change, err := g.bind(next)
	if err != nil {
		next.drop(running)
		return err
	}
	g.number = next.gen.Number()
	g.proxy.Swap(next.gen)
	g.current.Store(next)
	g.runCache(old, next)
	g.leaveRedis(old)
	g.status.swapped(src, next)
	g.commit(change)
	g.warn(next.warnings)
	g.followFiles(next)
	return nil
}

// changed reloads where the file's content is another than the last that was
// tried, and looks after the certificates otherwise.
func (g *gateway) changed() {
	src, _ := g.read() // a file that is gone is one without content
	g.mu.Lock()
	same := sha256.Sum256(src.data) == g.seen
	g.mu.Unlock()
	if same || g.reload("the file changed") != nil { // it has been logged
		g.renew()
	}
}

// start serves by the configuration as it is now, until stop.
func (g *gateway) start(ctx context.Context) error {
	g.life = ctx
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.load(); err != nil {
		return err
	}
	g.spawn("the access log", g.proxy.Run)
	g.spawn("the transport", g.transport.Run)
	g.spawn("the pace of collections", edgecache.NewPacer(g.cached).Run)
	return nil
}

// spawn runs what ends with the gateway's life.
func (g *gateway) spawn(what string, run func(context.Context) error) {
	g.wg.Go(func() {
		if err := run(g.life); err != nil && g.life.Err() == nil {
			g.fail(fmt.Errorf("%s failed: %w", what, err))
		}
	})
}

// fail ends the gateway because of err; only the first counts.
func (g *gateway) fail(err error) {
	select {
	case g.failed <- err:
	default:
	}
}

// handlers is what a listener does with a connection's requests.
func (g *gateway) handlers() listen.Handlers {
	return listen.Handlers{
		Handle: g.proxy.Handle, Expect: g.proxy.Expect,
		HTTP2: func(s *listen.Stream) { g.proxy.HandleStream(s) },
		Reject: func(dst []byte, client netip.AddrPort, v *listen.Violation) []byte {
			version := "1.1"
			if v.HTTP2 {
				version = "2"
			}
			return g.proxy.Refuse(dst, client, version, v.Status, v.Reason)
		},
	}
}
