package listen

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

const hstsField = "Strict-Transport-Security"

// hstsValue is the field's for clients that are to come back with https for so
// long (RFC 6797, section 6.1); "" for 0.
func hstsValue(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return "max-age=" + strconv.FormatInt(int64(d/time.Second), 10)
}

// expect decides on a request with Expect: 100-continue.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	switch {
	case s.limits.Load().RedirectHTTPS && !ctx.IsTLS():
		return redirect(ctx)
	case s.handlers.Expect != nil:
		return s.handlers.Expect(ctx)
	}
	return fasthttp.StatusContinue
}

// redirect sends a client of HTTP/1 to https.
func redirect(ctx *fasthttp.RequestCtx) (status int) {
	where, ok := secureURL(ctx.Request.Header.Host(), ctx.Request.Header.RequestURI())
	status = fasthttp.StatusBadRequest
	if ok {
		status = fasthttp.StatusPermanentRedirect
		ctx.Response.Header.Set("Location", where)
	}
	ctx.SetStatusCode(status)
	return status
}

// redirectHTTP2 is redirect for HTTP/2.
func redirectHTTP2(st *Stream) {
	where, ok := secureURL([]byte(st.authority), []byte(st.target))
	if ok {
		st.Begin(http.StatusPermanentRedirect)
		st.Add([]byte("location"), []byte(where))
	} else {
		st.Begin(http.StatusBadRequest)
	}
	_ = st.Send(nil, true) // the client may be gone
}

// secureURL is where host and target would be with https, on its standard port.
func secureURL(host, target []byte) (string, bool) {
	if i := bytes.Index(target, []byte("://")); i > 0 && target[0] != '/' { // absolute-form
		host, target = target[i+3:], nil
		if j := bytes.IndexAny(host, "/?"); j >= 0 {
			host, target = host[:j], host[j:]
		}
	}
	name, _, ok := splitAuthority(host)
	if !ok || !clean(target, clsTarget, '!') {
		return "", false
	}
	slash := ""
	if len(target) == 0 || target[0] != '/' {
		slash = "/"
	}
	if string(target) == "*" {
		target = nil
	}
	return "https://" + string(name) + slash + string(target), true
}
