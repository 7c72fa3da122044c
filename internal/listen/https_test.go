package listen

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func TestSecureURL(t *testing.T) {
	for _, c := range []struct{ host, target, want string }{
		{"a.example", "/", "https://a.example/"}, {"a.example:8080", "/x?y=%20&z", "https://a.example/x?y=%20&z"},
		{"[::1]:80", "/", "https://[::1]/"}, {"a", "//b.example/x", "https://a//b.example/x"}, {"a", "*", "https://a/"},
		{"", "http://b.example:80/x", "https://b.example/x"}, {"", "http://b.example?x", "https://b.example/?x"},
		{"a", "/http://b.example/", "https://a/http://b.example/"}, {"a", "", "https://a/"},
		{"", "/", ""}, {"a@b", "/", ""}, {"a", "/\r\nX: y", ""}, {"a", "/ x", ""}, {"a/b", "/", ""}, {"a", "http://u@b/", ""},
	} {
		if got, ok := secureURL([]byte(c.host), []byte(c.target)); got != c.want || ok != (c.want != "") {
			t.Errorf("%q %q: %q, want %q", c.host, c.target, got, c.want)
		}
	}
}

// The switch is in force at once, for connections that are open as well.
func TestRedirectHTTPS(t *testing.T) {
	served := func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("served") }
	s := start(t, Config{HTTP2: true}, Handlers{Handle: served, HTTP2: face(echo2)})
	c := dial(t, s)
	c.send(get(""))
	c.want(200, "served")
	s.SetLimits(Config{HTTP2: true, RedirectHTTPS: true})
	for _, request := range []string{
		"GET /x?y HTTP/1.1\r\nHost: a.example:8080\r\n\r\n",
		"POST /x?y HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc",
		"POST /x?y HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
	} {
		c.send(request)
		if res := c.want(308, ""); res.Header.Get("Location") != "https://a.example/x?y" {
			t.Errorf("sent to %q", res.Header.Get("Location"))
		}
	}
	client, url := browser(t, s)
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := client.Get(url + "/x?y")
	wantResponse(t, res, err, 308, "")
	if got := res.Header.Get("Location"); got != "https://127.0.0.1/x?y" {
		t.Errorf("sent to %q", got)
	}
}

func TestHSTS(t *testing.T) {
	own := func(path string) string {
		if path == "/own" {
			return "max-age=1; includeSubDomains"
		}
		return ""
	}
	cfg := Config{TLS: standardTLS(t), HTTP2: true, HSTS: 24 * time.Hour}
	s := start(t, cfg, Handlers{
		Handle: func(ctx *fasthttp.RequestCtx) {
			if v := own(string(ctx.Path())); v != "" {
				ctx.Response.Header.Set(hstsField, v)
			}
		},
		HTTP2: face(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if v := own(r.URL.Path); v != "" {
				w.Header().Set(hstsField, v)
			}
			_, _ = io.WriteString(w, "served")
		})),
	})
	client, url := browser(t, s)
	for path, want := range map[string]string{"/": "max-age=86400", "/own": own("/own")} {
		c := dial(t, s)
		c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		if got := c.want(200, "").Header.Values(hstsField); len(got) != 1 || got[0] != want {
			t.Errorf("HTTP/1 %s: %q, want %q", path, got, want)
		}
		res, err := client.Get(url + path)
		wantResponse(t, res, err, 200, "served")
		if got := res.Header.Values(hstsField); len(got) != 1 || got[0] != want {
			t.Errorf("HTTP/2 %s: %q, want %q", path, got, want)
		}
	}
	cfg.TLS = nil
	s.SetLimits(cfg)
	c := dial(t, s)
	c.send(get(""))
	if res := c.want(200, ""); res.Header.Get(hstsField) != "" {
		t.Error("said without TLS")
	}
}
