package listen

import (
	"bytes"
	"net/netip"
)

// imitates reports whether name, which has an underscore, could be taken by
// an upstream for a field that frames, routes or vouches for a request.
func imitates(name []byte) bool {
	var f foldBuf
	folded := f.fold(name)
	switch string(folded) {
	case "transfer-encoding", "content-length", "host", "connection", "forwarded",
		"x-real-ip", "x-request-id", "keep-alive", "proxy-connection", "content-type":
		return true
	}
	return hasPrefix(folded, "x-forwarded-") || ofCertificate(folded)
}

// ofCertificate reports whether a folded name is one of those that say who the
// client is by its certificate (RFC 9440).
func ofCertificate(folded []byte) bool {
	return hasPrefix(folded, "client-cert") || hasPrefix(folded, "x-client-cert")
}

func hasPrefix(b []byte, p string) bool { return len(b) >= len(p) && string(b[:len(p)]) == p }

// endToEnd reports whether name, in any spelling, may not be declared
// hop-by-hop (RFC 9110, section 7.6.1): nominating it would strip what
// the upstream must see.
func endToEnd(name []byte) bool {
	var f foldBuf
	folded := f.fold(name)
	switch string(folded) {
	case "host", "transfer-encoding", "authorization", "cookie", "set-cookie", "forwarded", "via",
		"x-request-id", "x-real-ip", "expect", "date", "range", "origin", "cache-control", "pragma",
		"max-forwards", "cdn-loop", "traceparent", "tracestate", "user-agent", "accept", "vary", "age":
		return true
	}
	return hasPrefix(folded, "content-") || hasPrefix(folded, "x-forwarded-") || hasPrefix(folded, "if-") || ofCertificate(folded)
}

// trailerAllowed reports whether name may come after the body (RFC 9110,
// section 6.5.1): nothing that frames, routes, authenticates, modifies the
// request or describes its content.
func trailerAllowed(name []byte) bool {
	if endToEnd(name) {
		return false
	}
	var f foldBuf
	folded := f.fold(name)
	switch string(folded) {
	case "connection", "trailer", "te", "upgrade", "keep-alive", "http2-settings",
		"www-authenticate", "location", "retry-after", "expires", "warning", "referer":
		return false
	}
	return !hasPrefix(folded, "proxy-") && !hasPrefix(folded, "accept-") && !hasPrefix(folded, "access-control-")
}

// connection examines the options of a Connection field.
func connection(value []byte) *Violation {
	if equalFold(value, "keep-alive") || equalFold(value, "close") {
		return nil
	}
	for more := true; more; {
		var item []byte
		item, value, more = bytes.Cut(value, []byte{','})
		item = trimOWS(item)
		if !allOf(item, clsToken) {
			return errConnection
		}
		if endToEnd(item) {
			return errNominated
		}
	}
	return nil
}

// IsAuthority reports whether s is a host, with a port or without, that a request
// may name: every other is answered with 400.
func IsAuthority(s string) bool {
	_, _, ok := splitAuthority([]byte(s))
	return ok
}

// splitAuthority cuts host[:port] (RFC 3986, section 3.2, without userinfo
// and percent-encoding). The port is -1 where none is given.
func splitAuthority(b []byte) (host []byte, port int, ok bool) {
	if len(b) == 0 || len(b) > 255+6 {
		return nil, 0, false
	}
	if b[0] == '[' {
		i := bytes.IndexByte(b, ']')
		if i < 0 || !isIPv6(b[1:i]) {
			return nil, 0, false
		}
		port, ok = parsePort(b[i+1:])
		return b[:i+1], port, ok
	}
	i := bytes.IndexByte(b, ':')
	if i < 0 {
		i = len(b)
	}
	if !isName(b[:i]) {
		return nil, 0, false
	}
	port, ok = parsePort(b[i:])
	return b[:i], port, ok
}

// isName admits letters, digits, '-', '_' and single inner dots; one dot may
// end the name.
func isName(b []byte) bool {
	if len(b) == 0 || b[0] == '.' {
		return false
	}
	dot := false
	for _, c := range b {
		if class[c]&clsHost == 0 || c == '.' && dot {
			return false
		}
		dot = c == '.'
	}
	return true
}

func isIPv6(b []byte) bool {
	if len(b) > 45 || bytes.IndexByte(b, '%') >= 0 {
		return false
	}
	a, err := netip.ParseAddr(string(b))
	return err == nil && a.Is6()
}

// parsePort reads what follows a host: nothing, or a colon and 1 to 5 digits.
func parsePort(b []byte) (int, bool) {
	if len(b) == 0 {
		return -1, true
	}
	if b[0] != ':' || len(b) < 2 || len(b) > 6 {
		return 0, false
	}
	n := 0
	for _, c := range b[1:] {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, n <= 65535
}

// sameAuthority compares two valid authorities: hosts without regard to case,
// ports with the scheme's default filled in.
func sameAuthority(a, b []byte, tls bool) bool {
	hostA, portA, _ := splitAuthority(a)
	hostB, portB, _ := splitAuthority(b)
	std := 80
	if tls {
		std = 443
	}
	if portA < 0 {
		portA = std
	}
	if portB < 0 {
		portB = std
	}
	return portA == portB && bytes.EqualFold(hostA, hostB)
}
