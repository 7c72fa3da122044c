package proxy

import (
	"net/netip"
	"strings"
)

// A fieldKind says what the gateway does with a request field.
type fieldKind uint8

const (
	endToEnd   fieldKind = iota // passed on as it is
	hopByHop                    // ends here (RFC 9110, section 7.6.1)
	connection                  // ends here, and names others that do
	host
	length
	via
	forwardedFor // X-Forwarded-For
	forwardedProto
	forwardedHost
	forwarded // RFC 7239
	peerOnly  // only a trusted peer may say it
	certField // what is known of a client's certificate (RFC 9440)
	requestID
	upgradeField
	transferCoding
	maxForwards
)

// kindOf classifies a field name. Every name differs from the others in length
// or first letter, so that most fields cost one comparison at most.
func kindOf(name []byte) fieldKind {
	if len(name) < 2 || len(name) > 19 {
		return longKind(name)
	}
	switch name[0] | 0x20 {
	case 'h':
		if equalFold(name, "Host") {
			return host
		}
		if equalFold(name, "HTTP2-Settings") {
			return hopByHop
		}
	case 'c':
		switch {
		case equalFold(name, "Connection"):
			return connection
		case equalFold(name, "Content-Length"):
			return length
		case hasFoldPrefix(name, "Client-Cert"):
			return certField
		}
	case 't':
		switch {
		case equalFold(name, "TE"):
			return hopByHop
		case equalFold(name, "Transfer-Encoding"):
			return transferCoding
		}
	case 'k':
		if equalFold(name, "Keep-Alive") {
			return hopByHop
		}
	case 'p':
		if equalFold(name, "Proxy-Connection") || equalFold(name, "Proxy-Authorization") || equalFold(name, "Proxy-Authenticate") {
			return hopByHop
		}
	case 'e':
		if equalFold(name, "Expect") {
			return hopByHop // answered here
		}
	case 'u':
		if equalFold(name, "Upgrade") {
			return upgradeField
		}
	case 'v':
		if equalFold(name, "Via") {
			return via
		}
	case 'f':
		if equalFold(name, "Forwarded") {
			return forwarded
		}
	case 'm':
		if equalFold(name, "Max-Forwards") {
			return maxForwards
		}
	case 'x':
		return xKind(name)
	}
	return endToEnd
}

func xKind(name []byte) fieldKind {
	switch {
	case equalFold(name, "X-Forwarded-For"):
		return forwardedFor
	case equalFold(name, "X-Forwarded-Proto"):
		return forwardedProto
	case equalFold(name, "X-Forwarded-Host"):
		return forwardedHost
	case equalFold(name, "X-Request-Id"):
		return requestID
	case equalFold(name, "X-Real-IP"):
		return peerOnly
	}
	return longKind(name)
}

func longKind(name []byte) fieldKind {
	switch {
	case hasFoldPrefix(name, "X-Forwarded-"):
		return peerOnly
	case hasFoldPrefix(name, "Client-Cert"), hasFoldPrefix(name, "X-Client-Cert"):
		return certField
	}
	return endToEnd
}

func hasFoldPrefix(name []byte, prefix string) bool {
	return len(name) >= len(prefix) && equalFold(name[:len(prefix)], prefix)
}

// tokens calls yield for every element of a comma-separated list.
func tokens(list string, yield func(string) bool) {
	for list != "" {
		var one string
		one, list, _ = strings.Cut(list, ",")
		if one = strings.Trim(one, " \t"); one != "" && !yield(one) {
			return
		}
	}
}

// clientOf is the address of the client behind trusted peers: the last address
// of the chain that no trusted peer has. A chain that cannot be read counts up
// to where it can.
func clientOf(r *Request, peer netip.Addr, trusted func(netip.Addr) bool) netip.Addr {
	client := peer
	step := func(text string) bool {
		addr, ok := parseAddr(text)
		if !ok {
			return false
		}
		client = addr
		return trusted(addr)
	}
	seen := false
	for i := len(r.Fields) - 1; i >= 0; i-- {
		if kindOf(r.Fields[i].Name) != forwardedFor {
			continue
		}
		seen = true
		if !backwards(view(r.Fields[i].Value), step) {
			return client
		}
	}
	if seen {
		return client
	}
	for i := len(r.Fields) - 1; i >= 0; i-- {
		if kindOf(r.Fields[i].Name) == forwarded && !backwards(view(r.Fields[i].Value), func(element string) bool {
			return step(forwardedParam(element, "for"))
		}) {
			break
		}
	}
	return client
}

// backwards calls yield for the elements of a list from the last to the first
// and reports whether it got to the end.
func backwards(list string, yield func(string) bool) bool {
	for {
		i := strings.LastIndexByte(list, ',')
		if !yield(strings.Trim(list[i+1:], " \t")) {
			return false
		}
		if i < 0 {
			return true
		}
		list = list[:i]
	}
}

// forwardedParam returns one parameter of an element of Forwarded (RFC 7239,
// section 4), unquoted.
func forwardedParam(element, name string) string {
	for element != "" {
		var pair string
		pair, element, _ = strings.Cut(element, ";")
		key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
		if ok && strings.EqualFold(key, name) {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// parseAddr reads an address with or without brackets and port.
func parseAddr(s string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
		if addr, err := netip.ParseAddr(s[1 : n-1]); err == nil {
			return addr.Unmap().WithZone(""), true
		}
	}
	return netip.Addr{}, false
}
