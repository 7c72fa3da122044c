package listen

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/valyala/fasthttp"
)

const (
	// smallHead is the size of the read buffer that does for nearly all
	// requests; it takes the largest trailer section, too.
	smallHead = 9472
	headSpare = 64 // beside the largest head, in the other buffer
)

// pair is one fasthttp server with small read buffers and one with such as take
// the largest head: buffers are what a connection costs while it is served.
type pair struct {
	small, large *fasthttp.Server
}

func (s *Server) newPair(maxHead int) *pair {
	large := max(maxHead, smallHead) + headSpare
	return &pair{small: s.newHTTP(smallHead), large: s.newHTTP(large)}
}

func (p *pair) choose(c *Conn) *fasthttp.Server {
	server := p.small
	if c.g.headLen > smallHead {
		server = p.large
	}
	c.room = server.ReadBufferSize
	return server
}

func (s *Server) newHTTP(readBuffer int) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      s.handle,
		HeaderReceived:               bodiless,
		ErrorHandler:                 s.failed,
		ExpectHandler:                s.expect,
		StreamRequestBody:            true,
		LazyRequestTime:              true,
		DisablePreParseMultipartForm: true,
		NoDefaultServerHeader:        true,
		NoDefaultDate:                true,
		NoDefaultContentType:         true,
		SecureErrorLogMessage:        true,
		CloseOnShutdown:              true,
		ReadBufferSize:               readBuffer,
		WriteBufferSize:              s.buffer,
		Concurrency:                  math.MaxInt32,
		Logger:                       debugLogger{s.log},
	}
}

// handle has the last response on a connection say that it is: before a
// shutdown, and where too much of the request is left to be read. Those over TLS
// say that the client should come back with it.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	lim := s.limits.Load()
	if lim.RedirectHTTPS && !ctx.IsTLS() {
		redirect(ctx)
	} else {
		s.handlers.Handle(ctx)
	}
	if lim.hsts != "" && ctx.IsTLS() && len(ctx.Response.Header.Peek(hstsField)) == 0 {
		ctx.Response.Header.Set(hstsField, lim.hsts)
	}
	if s.draining.Load() {
		ctx.SetConnectionClose()
		return
	}
	// While a response is streamed somebody may be reading the body yet.
	if ctx.Response.IsBodyStream() || ctx.Hijacked() {
		return
	}
	if c, ok := ctx.Conn().(interface{ conn() *Conn }); ok && !c.conn().skippable() {
		ctx.SetConnectionClose()
	}
}

// failed answers for fasthttp what it could not read: a body that was broken
// from its start.
func (s *Server) failed(ctx *fasthttp.RequestCtx, err error) {
	v := errRequest
	if c, ok := ctx.Conn().(interface{ Violation() *Violation }); ok {
		if own := c.Violation(); own != nil {
			v = own
		}
	}
	var small *fasthttp.ErrSmallBuffer
	if errors.As(err, &small) {
		v = errHeadLarge
	}
	response := bufio.NewReader(bytes.NewReader(s.reject(ctx.RemoteAddr(), v)))
	if ctx.Response.Read(response) != nil {
		ctx.Response.Reset()
		ctx.SetStatusCode(v.Status)
	}
}

// debugLogger is fasthttp's way to the log.
type debugLogger struct{ log *slog.Logger }

// Printf logs at debug level.
func (l debugLogger) Printf(format string, args ...any) {
	l.log.Debug("fasthttp: " + fmt.Sprintf(format, args...))
}
