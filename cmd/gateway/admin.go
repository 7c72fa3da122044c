package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/internal/admin"
)

// An adminListener serves the admin API. Its handler may change, its address
// not.
type adminListener struct {
	address string // as configured
	ln      net.Listener
	server  *http.Server
	handler atomic.Pointer[http.Handler]
}

func (g *gateway) openAdmin(address string) (*adminListener, error) {
	ln, err := listenSparing(address)
	if err != nil {
		return nil, g.cannotListen(address, err)
	}
	a := &adminListener{address: address, ln: ln}
	a.server = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			(*a.handler.Load()).ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       75 * time.Second,
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
	}
	return a, nil
}

// commitAdmin serves the admin listener that the setup asks for.
func (g *gateway) commitAdmin(c *change) {
	old := g.admin
	if c.admin != nil {
		g.admin = c.admin
	}
	wanted := c.next.file.Admin.Address != ""
	if wanted {
		handler := g.adminHandler(c.next.token)
		g.admin.handler.Store(&handler)
	} else {
		g.admin = nil
	}
	if old != nil && old != g.admin {
		g.wg.Go(func() { old.close(g.life) })
	}
	if c.admin != nil {
		g.serveAdmin(c.admin)
	}
}

func (g *gateway) serveAdmin(a *adminListener) {
	g.log.Info("admin listening", "listener", a.address, "address", a.ln.Addr().String())
	g.wg.Go(func() {
		if err := a.server.Serve(a.ln); !errors.Is(err, http.ErrServerClosed) {
			g.log.Error("the admin listener failed", "listener", a.address, "error", err)
		}
	})
}

// close lets requests finish for a second: a reload that moves the admin
// listener came in through one.
func (a *adminListener) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if a.server.Shutdown(ctx) != nil {
		a.server.Close()
	}
}

func (g *gateway) adminHandler(token string) http.Handler {
	return admin.New(admin.Config{
		Token:      token,
		Metrics:    g.writeMetrics,
		Ready:      g.readiness,
		Routes:     func() any { return g.current.Load().gen.Routes() },
		Backends:   func() any { return g.current.Load().gen.Backends() },
		Limits:     func() any { return g.current.Load().gen.Limits() },
		Generation: func() any { return g.status.report() },
		Config:     func() any { return g.current.Load().shown },
		Cache:      g.cacheReport,
		Purge: func(body []byte) (any, error) {
			var o purgeOrder
			if err := decodeOrder(body, &o); err != nil {
				return nil, err
			}
			everywhere, err := g.purgeCache(o)
			return map[string]bool{"everywhere": everywhere}, err
		},
		Drain: func(backend, target string, on bool) error {
			return g.current.Load().gen.Drain(backend, target, on)
		},
		Reload: func() error { return g.reload("the admin API asked for it") },
		Log:    g.log,
	})
}

// closeAdmin ends the admin listener, if there is one.
func (g *gateway) closeAdmin() {
	g.mu.Lock()
	a := g.admin
	g.mu.Unlock()
	if a != nil {
		a.close(g.life)
	}
}

// readiness is an error while load balancers should look elsewhere.
func (g *gateway) readiness() error {
	if g.draining.Load() {
		return errors.New("draining")
	}
	return nil
}

// countThings registers what the gateway itself counts.
func (g *gateway) countThings() {
	g.reloads.ok = g.metrics.NewCounter(`sluice_config_reloads_total{result="ok"}`)
	g.reloads.failed = g.metrics.NewCounter(`sluice_config_reloads_total{result="error"}`)
	g.renewal.ok = g.metrics.NewCounter(`sluice_tls_certificate_reloads_total{result="ok"}`)
	g.renewal.failed = g.metrics.NewCounter(`sluice_tls_certificate_reloads_total{result="error"}`)
	g.metrics.NewGauge("sluice_generation", func() float64 {
		if s := g.current.Load(); s != nil {
			return float64(s.gen.Number())
		}
		return 0
	})
	g.metrics.NewGauge("sluice_config_last_reload_successful", func() float64 {
		if g.status.report().Error != nil {
			return 0
		}
		return 1
	})
	g.metrics.RegisterMetricsWriter(g.writeConnections)
	g.metrics.RegisterMetricsWriter(g.writeCache)
}

// writeMetrics writes everything in Prometheus' text format.
func (g *gateway) writeMetrics(w io.Writer) {
	g.metrics.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
	metrics.WriteFDMetrics(w)
}
