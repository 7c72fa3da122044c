package users

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

const requestTime = 15 * time.Second // of one request to a service of its own

// carried is a request of a fasthttp server.
type carried struct {
	Request
	Response Response
	ctx      *fasthttp.RequestCtx
	life     context.Context
	stop     context.CancelFunc
}

// Nth implements Incoming.
func (c *carried) Nth(name string, n int) (string, bool) {
	if n == 0 {
		v := c.ctx.Request.Header.Peek(name)
		return string(v), v != nil
	}
	if lines := c.ctx.Request.Header.PeekAll(name); n < len(lines) {
		return string(lines[n]), true
	}
	return "", false
}

// Context ends with the time that a request has.
func (c *carried) Context() context.Context {
	if c.life == nil {
		c.life, c.stop = context.WithTimeout(context.Background(), requestTime)
	}
	return c.life
}

var carriers = sync.Pool{New: func() any { return new(carried) }}

// Handle serves a request of a fasthttp server, which has StreamRequestBody set.
func (h *Handler) Handle(ctx *fasthttp.RequestCtx) {
	c := carriers.Get().(*carried)
	c.ctx, c.life, c.stop = ctx, nil, nil
	c.Response.Reset()
	c.Request = Request{
		Incoming: c,
		Method:   string(ctx.Method()),
		Path:     pathOf(ctx.URI().PathOriginal()),
		Query:    string(ctx.URI().QueryString()),
		Secure:   string(ctx.Request.Header.Peek("X-Forwarded-Proto")) == "https",
	}
	if c.Body = ctx.RequestBodyStream(); c.Body == nil {
		c.Body = bytes.NewReader(ctx.PostBody())
	}
	defer func() {
		if c.stop != nil {
			c.stop()
		}
		c.ctx = nil
		carriers.Put(c)
	}()
	if err := h.Serve(&c.Request, &c.Response); err != nil {
		h.broken(c, err)
	}
	c.write(ctx)
}

// pathOf decodes a path and leaves it as it is otherwise: fasthttp's own form
// takes dot segments out that were written with %2f.
func pathOf(raw []byte) string {
	path := string(raw)
	if plain, err := url.PathUnescape(path); err == nil {
		return plain
	}
	return path
}

// broken answers where the request's body could not be read.
func (h *Handler) broken(c *carried, err error) {
	p := &problem{status: fasthttp.StatusBadRequest, detail: "the request's body broke off"}
	if errors.Is(err, fasthttp.ErrBodyTooLarge) {
		p = &problem{status: fasthttp.StatusRequestEntityTooLarge, detail: "the body is too large"}
	}
	h.problem(&c.Request, &c.Response, p)
	c.ctx.SetConnectionClose()
}

// Refuse answers what a fasthttp server could not read as a request: it is its
// ErrorHandler. The connection ends then.
func Refuse(ctx *fasthttp.RequestCtx, err error) {
	status, detail := fasthttp.StatusBadRequest, "the request is malformed"
	var late net.Error
	switch {
	case errors.As(err, new(*fasthttp.ErrSmallBuffer)):
		status, detail = fasthttp.StatusRequestHeaderFieldsTooLarge, "the request's head is too large"
	case errors.As(err, &late) && late.Timeout():
		status, detail = fasthttp.StatusRequestTimeout, "the request did not come in time"
	}
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType("application/problem+json")
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.SetBody(appendProblem(nil, status, detail, "", nil))
}

func (c *carried) write(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(c.Response.Status)
	for _, f := range c.Response.Fields {
		ctx.Response.Header.Add(f.Name, f.Value)
	}
	ctx.SetBody(c.Response.Body)
}
