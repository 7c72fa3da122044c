package proxy

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// pseudonym is the gateway's name in Via, Proxy-Status and Cache-Status.
const pseudonym = "sluice"

// maxHops is how often a request may pass gateways of this name: chains of a
// few are made on purpose, longer ones are loops.
const maxHops = 8

// identify finds out who the client is and what the exchange is called.
func (x *Exchange) identify() {
	r := &x.Request
	peer := r.Peer.Addr().Unmap()
	r.ClientIP = peer
	if r.PeerTrusted = x.gen.trusts(peer); r.PeerTrusted {
		r.ClientIP = clientOf(r, peer, x.gen.trusts)
		if id, ok := r.Lookup("X-Request-Id"); ok && usableID(id) {
			x.id = raw(id)
			return
		}
	}
	const digits = "0123456789abcdef"
	n := len(x.arena)
	for range 2 {
		for v, i := rand.Uint64(), 0; i < 16; i++ {
			x.arena = append(x.arena, digits[v&15])
			v >>= 4
		}
	}
	x.id = x.arena[n:len(x.arena):len(x.arena)]
}

// usableID keeps what a peer sends as an id out of trouble in logs.
func usableID(id string) bool {
	if len(id) == 0 || len(id) > 128 {
		return false
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// checkHops refuses a request that goes round in circles.
func (x *Exchange) checkHops() error {
	hops := 0
	for i := range x.Request.Fields {
		f := &x.Request.Fields[i]
		if kindOf(f.Name) == via {
			tokens(view(f.Value), func(one string) bool {
				if _, by, ok := strings.Cut(one, " "); ok && strings.HasPrefix(strings.TrimLeft(by, " "), pseudonym) {
					hops++
				}
				return true
			})
		}
	}
	if hops >= maxHops {
		return &Problem{Status: 502, Detail: "the request goes round in circles", Type: "proxy_loop_detected"}
	}
	return nil
}

// hopsLeft is the value of a Max-Forwards field, where the method makes it
// count (RFC 9110, section 7.6.2; TRACE never comes this far).
func (x *Exchange) hopsLeft(value []byte) (n int, counts bool) {
	n, err := strconv.Atoi(view(value))
	return n, err == nil && n >= 0 && string(x.Request.Method) == "OPTIONS"
}

// lastHop reports whether the request asks to be answered here.
func (x *Exchange) lastHop() bool {
	if string(x.Request.Method) != "OPTIONS" {
		return false
	}
	value, ok := x.Request.Lookup("Max-Forwards")
	n, counts := x.hopsLeft(raw(value))
	return ok && counts && n == 0
}

// upstreamFields makes the head that the backend gets, in one pass over the
// client's: the same fields in the same order and spelling, without what ends
// at this hop, and with what the gateway says of the client. authority is the
// Host for a request that has none.
func (x *Exchange) upstreamFields(authority string) []Field {
	r := &x.Request
	out := x.out[:0]
	if len(r.Host) == 0 {
		// An HTTP/1.0 client may leave it out, an HTTP/1.1 request may not.
		out = append(out, Field{Name: raw("Host"), Value: raw(first(x.host, authority))})
	}
	nominated := connectionOptions(r)
	var prior forwardedChain
	for i := range r.Fields {
		f := r.Fields[i]
		if nominated != "" && listed(nominated, f.Name) {
			continue
		}
		switch k := kindOf(f.Name); k {
		case endToEnd, length:
			out = append(out, f)
		case host:
			if len(r.Host) == 0 {
				continue
			}
			if x.host != "" {
				f.Value = raw(x.host)
			}
			out = append(out, f)
		case via:
			out = append(out, f)
		case maxForwards:
			if n, counts := x.hopsLeft(f.Value); counts {
				f.Value = raw(x.keep(strconv.Itoa(n - 1)))
			}
			out = append(out, f)
		case peerOnly:
			if r.PeerTrusted {
				out = append(out, f)
			}
		case certField:
			// The certificate of this connection is its client's word, and better
			// than that of a peer in between.
			if r.PeerTrusted && r.cert == nil {
				out = append(out, f)
			}
		case forwardedFor, forwardedProto, forwardedHost, forwarded:
			if r.PeerTrusted {
				prior.add(x, k, f.Value)
			}
		}
	}
	out = x.appendOwn(out, &prior)
	x.out = out
	if edit := &x.route.requestEdit; !edit.empty() {
		h := Header{Fields: out}
		edit.apply(&h)
		x.out = h.Fields
	}
	return x.out
}

// wantsTrailers reports whether the client understands trailer fields. TE ends
// at this hop, so a target that speaks HTTP/2 is told anew.
func (x *Exchange) wantsTrailers() bool {
	for i := range x.Request.Fields {
		if f := &x.Request.Fields[i]; equalFold(f.Name, "TE") && listed(view(f.Value), raw("trailers")) {
			return true
		}
	}
	return false
}

// connectionOptions returns what Connection names, "" where it names no field.
func connectionOptions(r *Request) string {
	all := ""
	for i := range r.Fields {
		if f := &r.Fields[i]; len(f.Name) == len("Connection") && kindOf(f.Name) == connection {
			v := view(f.Value)
			if strings.EqualFold(v, "keep-alive") || strings.EqualFold(v, "close") || strings.EqualFold(v, "upgrade") {
				continue
			}
			if all != "" {
				all += ","
			}
			all += v
		}
	}
	return all
}

func listed(list string, name []byte) bool {
	found := false
	tokens(list, func(one string) bool {
		found = equalFold(name, one)
		return !found
	})
	return found
}

// forwardedChain is what trusted peers said of where the request came from.
type forwardedChain struct{ addrs, proto, host, elements string }

func (c *forwardedChain) add(x *Exchange, k fieldKind, value []byte) {
	v := view(value)
	join := func(list string) string {
		if list == "" {
			return v
		}
		return x.keep(list, ", ", v)
	}
	switch k {
	case forwardedFor:
		c.addrs = join(c.addrs)
	case forwardedProto:
		c.proto = v
	case forwardedHost:
		c.host = v
	case forwarded:
		c.elements = join(c.elements)
	}
}

// appendOwn appends the fields that the gateway itself sets for backends.
func (x *Exchange) appendOwn(out []Field, prior *forwardedChain) []Field {
	r := &x.Request
	h := Header{Fields: out}
	n := len(x.arena)
	x.arena = r.Peer.Addr().Unmap().AppendTo(x.arena)
	peer := view(x.arena[n:len(x.arena):len(x.arena)])
	if prior.addrs != "" {
		h.Add("X-Forwarded-For", x.keep(prior.addrs, ", ", peer))
	} else {
		h.Add("X-Forwarded-For", peer)
	}
	h.Add("X-Forwarded-Proto", first(prior.proto, r.Scheme))
	if value := first(prior.host, view(r.Host)); value != "" {
		h.Add("X-Forwarded-Host", value)
	}
	h.Add("Forwarded", x.forwardedElement(prior.elements, peer))
	h.Add("Via", viaOf(r.Version))
	h.Add("X-Request-Id", view(x.id))
	if r.cert != nil {
		r.cert.appendTo(&h)
	}
	return h.Fields
}

// forwardedElement is the gateway's own element of Forwarded after those
// before it (RFC 7239, section 4): an address with a colon is bracketed and
// quoted, a host with a port quoted.
func (x *Exchange) forwardedElement(before, peer string) string {
	open, end := "for=", ";"
	if strings.IndexByte(peer, ':') >= 0 {
		open, end = `for="[`, `]";`
	}
	sep := ""
	if before != "" {
		sep = ", "
	}
	h := view(x.Request.Host)
	switch {
	case h == "":
		return x.keep(before, sep, open, peer, end, "proto=", x.Request.Scheme)
	case strings.ContainsAny(h, ":[]"):
		return x.keep(before, sep, open, peer, end, `host="`, h, `";proto=`, x.Request.Scheme)
	}
	return x.keep(before, sep, open, peer, end, "host=", h, ";proto=", x.Request.Scheme)
}

func viaOf(version string) string {
	switch version {
	case "1.1":
		return "1.1 " + pseudonym
	case "1.0":
		return "1.0 " + pseudonym
	}
	return version + " " + pseudonym
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// contentLength parses a Content-Length that the connection has found valid.
func contentLength(value []byte) int64 {
	n, err := strconv.ParseInt(view(value), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
