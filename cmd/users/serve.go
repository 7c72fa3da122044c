package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/signal"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/service"
)

const (
	maxHead   = 32 << 10 // bytes of a request's head
	readTime  = 15 * time.Second
	idleTime  = 2 * time.Minute  // of a connection, longer than gateways keep it
	drainTime = 30 * time.Second // for requests to end
)

// serve is `users run`.
func (p *program) serve(ctx context.Context, args []string) error {
	l := newLine("run")
	if err := none(l, args); err != nil {
		return err
	}
	f, err := p.load(*l.config)
	if err != nil {
		return err
	}
	client, done, err := f.link()
	if err != nil {
		return err
	}
	defer done()
	set, log := metrics.NewSet(), p.logger()
	s, err := service.NewServices(set, log).Open(ctx, f.Users, client)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", f.Users.Listen)
	if err != nil {
		return errors.Join(fmt.Errorf("cannot listen on %s: %w", f.Users.Listen, err), s.Release())
	}
	signal.Ignore(syscall.SIGPIPE) // who reads the logs may end; who serves does not
	log.Info("serving", "address", ln.Addr().String(), "mode", f.Users.Mode, "strategy", f.Users.Strategy)
	err = serveUntil(ctx, ln, s, set)
	log.Info("stopped")
	return errors.Join(err, s.Release())
}

// serveUntil serves until ctx ends, and then the requests that have come.
func serveUntil(ctx context.Context, ln net.Listener, s *service.Service, set *metrics.Set) error {
	server := &fasthttp.Server{
		Handler:                      handler(s, set),
		ErrorHandler:                 users.Refuse,
		Name:                         "sluice-users",
		NoDefaultContentType:         true,
		StreamRequestBody:            true,
		DisablePreParseMultipartForm: true,
		ReadBufferSize:               maxHead,
		ReadTimeout:                  readTime,
		IdleTimeout:                  idleTime,
		CloseOnShutdown:              true,
		SecureErrorLogMessage:        true,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.Leave()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := server.ShutdownWithContext(drain)
	return errors.Join(err, <-ended)
}

// handler is the service with its metrics.
func handler(s *service.Service, set *metrics.Set) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		defer func() {
			if v := recover(); v != nil { // one request's end must not be everybody's
				ctx.Logger().Printf("panic: %v", v)
				ctx.ResetBody()
				ctx.Error("", fasthttp.StatusInternalServerError)
				ctx.SetConnectionClose()
			}
		}()
		if string(ctx.Path()) == "/metrics" {
			ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
			set.WritePrometheus(ctx)
			metrics.WriteProcessMetrics(ctx)
			metrics.WriteFDMetrics(ctx)
			return
		}
		s.Handle(ctx)
	}
}
