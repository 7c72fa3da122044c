package proxy_test

import (
	"fmt"
	"net"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sluice-edge/sluice/proxy"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// teapot is a backend of one's own: it answers without asking anybody.
type teapot struct{ body string }

func (t *teapot) Serve(x *proxy.Exchange) error {
	x.Response.Status = 418
	x.Response.Header.Add("Content-Type", "text/plain")
	x.Response.Body, x.Response.ContentLength = proxy.Text(t.body)
	return nil
}

func newTeapot(s proxy.Setup) (proxy.Backend, error) {
	spec := struct {
		Pours string `yaml:"pours"`
	}{"tea"}
	if err := s.Decode(&spec); err != nil {
		return nil, err
	}
	return &teapot{"short, stout, pours " + spec.Pours + "\n"}, nil
}

// A kind of backend is a constructor in the map that New is given.
func Example_customKind() {
	kinds := proxy.Kinds()
	kinds["teapot"] = newTeapot
	p, err := proxy.New(proxy.Config{Kinds: kinds, Transport: upstream.NewTransport()})
	if err != nil {
		panic(err)
	}
	g, err := p.Build(proxy.Spec{
		Routes:   []proxy.Route{{Name: "tea", Match: routing.Match{Path: "/tea/*"}, Backend: "pot"}},
		Backends: map[string]proxy.BackendSpec{"pot": {Kind: "teapot", Decode: func(any) error { return nil }}},
	})
	if err != nil {
		panic(err)
	}
	p.Swap(g)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &fasthttp.Server{Handler: p.Handle, StreamRequestBody: true}
	go server.Serve(ln)
	defer server.Shutdown()

	status, body, err := fasthttp.Get(nil, "http://"+ln.Addr().String()+"/tea/green")
	fmt.Println(status, strings.TrimSpace(string(body)), err)
	// Output: 418 short, stout, pours tea <nil>
}
