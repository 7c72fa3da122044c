package proxy

import (
	"net/netip"
	"strconv"
	"time"
)

// Refuse appends the whole HTTP/1 response to a client's request that was
// refused before there was an exchange, and counts and logs it as one. reason is
// for the client to read, version that of the protocol, as in Request. The
// caller ends the connection, or the stream that it translates the response for.
func (p *Proxy) Refuse(dst []byte, client netip.AddrPort, version string, status int, reason string) []byte {
	x := p.open()
	x.Request.Peer, x.Request.ClientIP, x.Request.Version = client, client.Addr().Unmap(), version
	if x.gen = p.gen.Load(); x.gen != nil {
		x.identify()
	}
	problem := &Problem{Status: status, Detail: reason, Type: "http_request_error"}
	switch status {
	case 405:
		problem.Allow = methods[:len(methods)-3] // neither CONNECT, TRACE nor what is made up
	case 503:
		problem.Type, problem.RetryAfter = "connection_limit_reached", time.Second
	}
	x.err, x.problem = problem, problem.Type
	problem.write(x)
	body := x.Response.Body.(*memoryBody).all
	p.respond(x)
	x.Response.Header.Add("Content-Length", strconv.Itoa(len(body)))
	x.Response.Header.Add("Connection", "close")
	x.bytesOut = int64(len(body))
	dst = append(appendHead(dst, &x.Response), body...)
	p.finish(x)
	return dst
}
