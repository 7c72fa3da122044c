package main

import (
	"context"
	"io"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/internal/users"
	"github.com/sluice-edge/sluice/internal/users/service"
	"github.com/sluice-edge/sluice/proxy"
)

// Users is a backend of kind users: the bundled user service, in this process.
type Users struct {
	Users service.Spec `yaml:"users" doc:"the service"`
}

// usersKind makes backends of kind users, whose services are among all.
func usersKind(all *service.Services) proxy.Constructor {
	return func(s proxy.Setup) (proxy.Backend, error) {
		spec := Users{service.Default()}
		if err := s.Decode(&spec); err != nil {
			return nil, err
		}
		return &usersBackend{all: all, spec: spec.Users, redis: s.Redis}, nil
	}
}

// A usersBackend answers from a user service.
type usersBackend struct {
	all     *service.Services
	spec    service.Spec
	redis   redis.UniversalClient
	service atomic.Pointer[service.Service]
}

// Start opens the service, or finds that it runs.
func (b *usersBackend) Start(ctx context.Context) error {
	s, err := b.all.Open(ctx, b.spec, b.redis)
	if err == nil {
		b.service.Store(s)
	}
	return err
}

// Close gives the service back, which ends with the last exchange.
func (b *usersBackend) Close() error {
	if s := b.service.Swap(nil); s != nil {
		return s.Release()
	}
	return nil
}

// Serve has the service answer.
func (b *usersBackend) Serve(x *proxy.Exchange) error {
	s := b.service.Load()
	if s == nil || !s.Hold() {
		return &proxy.Problem{Status: 503, Detail: "the user service is not running", RetryAfter: time.Second}
	}
	c := callers.Get().(*usersCall)
	c.begin(x)
	err := s.Serve(&c.request, &c.response)
	_ = s.Release() // where it was the last, there is nobody to tell
	if err != nil {
		c.end()
		return err
	}
	x.Response.Status = c.response.Status
	for _, f := range c.response.Fields {
		x.Response.Header.Add(f.Name, f.Value)
	}
	if len(c.response.Body) == 0 {
		c.end()
		return nil
	}
	x.Response.Body, x.Response.ContentLength = c, int64(len(c.response.Body))
	return nil
}

// A usersCall is one request of the service and the body of its answer.
type usersCall struct {
	x        *proxy.Exchange
	request  users.Request
	response users.Response
	read     int
}

var callers = sync.Pool{New: func() any { return new(usersCall) }}

const keptAnswer = 64 << 10 // bytes of an answer whose memory is used again

func (c *usersCall) begin(x *proxy.Exchange) {
	target := text(x.Target())
	path, query, _ := strings.Cut(target, "?")
	if strings.IndexByte(path, '%') >= 0 {
		if plain, err := url.PathUnescape(path); err == nil {
			path = plain
		}
	}
	c.x, c.read = x, 0
	c.response.Reset()
	c.request = users.Request{
		Incoming: c, Method: text(x.Request.Method), Path: path, Query: query,
		ID: x.ID(), Secure: x.Request.Scheme == "https", Body: x.Request.Body,
	}
}

// text is b as a string for as long as the exchange lasts.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (c *usersCall) end() {
	c.x, c.request = nil, users.Request{}
	if cap(c.response.Body) <= keptAnswer {
		callers.Put(c)
	}
}

// Lookup and Context are what the service asks of a request.
func (c *usersCall) Lookup(name string) (string, bool) {
	value, ok := c.x.Request.Lookup(name)
	for n := 1; ok; n++ {
		line, more := c.x.Request.Nth(name, n)
		if !more {
			break
		}
		value = users.Joined(name, value, line)
	}
	return value, ok
}

func (c *usersCall) Context() context.Context { return c.x.Context() }

// Read, Buffered and Close are a response's body.
func (c *usersCall) Read(p []byte) (int, error) {
	n := copy(p, c.response.Body[c.read:])
	c.read += n
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (c *usersCall) Buffered() ([]byte, bool) { return c.response.Body[c.read:], true }

func (c *usersCall) Close() error {
	c.end()
	return nil
}
