package listen

import (
	"bytes"
	"math"
)

// requestLine examines line, which begins at offset from of the head
// (RFC 9112, section 3).
func (g *guard) requestLine(line []byte, from int) *Violation {
	if len(line) == 0 {
		if g.blank {
			return errEmptyLines
		}
		g.blank = true
		return nil
	}
	i := bytes.IndexByte(line, ' ')
	if i <= 0 || i > maxMethod || !allOf(line[:i], clsToken) {
		return errMethod
	}
	method, rest := line[:i], line[i+1:]
	j := bytes.IndexByte(rest, ' ')
	if j <= 0 {
		return errRequestLine
	}
	target := rest[:j]
	if v := g.version(rest[j+1:]); v != nil {
		return foreign(target, rest[j+1:], v)
	}
	if len(target) > maxTarget {
		return errTargetLong
	}
	if !clean(target, clsTarget, '!') || bytes.IndexByte(target, '#') >= 0 {
		return errTarget
	}
	g.phase = inFields
	return g.target(method, target, from+i+1)
}

// foreign is errForeign where neither target nor version, both single words,
// are like HTTP's, and else v.
func foreign(target, version []byte, v *Violation) *Violation {
	if allOf(version, clsToken) && !bytes.HasPrefix(version, []byte("HTTP")) && !bytes.ContainsAny(target, "/*:") {
		return errForeign
	}
	return v
}

func (g *guard) version(v []byte) *Violation {
	if len(v) != len("HTTP/1.1") || string(v[:5]) != "HTTP/" || v[6] != '.' || !isDigit(v[5]) || !isDigit(v[7]) {
		return errVersion
	}
	if v[5] != '1' || v[7] > '1' {
		return errVersionOther
	}
	g.http10 = v[7] == '0'
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// target admits origin-form, absolute-form, and asterisk-form for OPTIONS
// (RFC 9112, section 3.2); it begins at offset from of the head.
func (g *guard) target(method, target []byte, from int) *Violation {
	switch len(method) {
	case len("TRACE"):
		if equalFold(method, "trace") {
			return errTrace
		}
	case len("CONNECT"):
		if equalFold(method, "connect") {
			if _, port, ok := splitAuthority(target); !ok || port < 0 {
				return errTarget
			}
			return errConnect
		}
	}
	if target[0] == '/' {
		return nil
	}
	if len(target) == 1 && target[0] == '*' && string(method) == "OPTIONS" {
		return nil
	}
	skip, own := len("http://"), !g.tls
	if len(target) < skip || !equalFold(target[:skip], "http://") {
		skip, own = len("https://"), g.tls
		if len(target) < skip || !equalFold(target[:skip], "https://") {
			return errTarget
		}
	}
	if !own {
		return errScheme
	}
	end := skip
	for end < len(target) && target[end] != '/' && target[end] != '?' {
		end++
	}
	if _, _, ok := splitAuthority(target[skip:end]); !ok {
		return errTarget
	}
	g.authorityAt = span{from + skip, from + end}
	return nil
}

// field examines one line of a header or trailer section, which begins at
// offset from of the section.
func (g *guard) field(line []byte, from int) *Violation {
	i, seen := 0, uint8(0)
	for ; i < len(line); i++ {
		cls := class[line[i]]
		if cls&clsToken == 0 {
			break
		}
		seen |= cls
	}
	if i == 0 || i == len(line) || line[i] != ':' {
		if line[0] == ' ' || line[0] == '\t' {
			return errFold
		}
		return errFieldName
	}
	name, value := line[:i], line[i+1:]
	if !clean(value, clsValue, ' ') {
		return errFieldValue
	}
	g.fields++
	if g.phase == inTrailer {
		if g.fields > maxTrailerField {
			return errTrailerLarge
		}
		if !trailerAllowed(name) {
			return errTrailerField
		}
		return nil
	}
	if g.fields > maxFields {
		return errFieldCount
	}
	if seen&clsUnder != 0 && imitates(name) {
		return errFieldAlias
	}
	return g.known(name, value, from+i+1)
}

// known examines the fields that frame or route a message.
func (g *guard) known(name, value []byte, from int) *Violation {
	switch len(name) {
	case len("host"):
		if equalFold(name, "host") {
			return g.host(value, from)
		}
	case len("expect"):
		if equalFold(name, "expect") && !equalFold(trimOWS(value), "100-continue") {
			return errExpect
		}
	case len("connection"):
		if equalFold(name, "connection") {
			return connection(trimOWS(value))
		}
	case len("content-length"):
		if equalFold(name, "content-length") {
			return g.contentLength(trimOWS(value))
		}
	case len("transfer-encoding"):
		if equalFold(name, "transfer-encoding") {
			return g.transferEncoding(trimOWS(value))
		}
	}
	return nil
}

func (g *guard) host(value []byte, from int) *Violation {
	if g.hosts++; g.hosts > 1 {
		return errHostCount
	}
	trimmed := trimOWS(value)
	if _, _, ok := splitAuthority(trimmed); !ok {
		return errHost
	}
	from += len(value) - len(bytes.TrimLeft(value, " \t"))
	g.hostAt = span{from, from + len(trimmed)}
	return nil
}

func (g *guard) contentLength(value []byte) *Violation {
	if g.length >= 0 {
		return errLengthTwice
	}
	if len(value) == 0 || len(value) > 19 || value[0] == '0' && len(value) > 1 {
		return errLength
	}
	n := uint64(0)
	for _, c := range value {
		if !isDigit(c) {
			return errLength
		}
		n = n*10 + uint64(c-'0')
	}
	if n > math.MaxInt64 {
		return errLength
	}
	g.length = int64(n)
	return nil
}

// transferEncoding admits chunked alone; other codings that have a name are
// answered 501, whatever else is 400 (RFC 9112, section 6.1).
func (g *guard) transferEncoding(value []byte) *Violation {
	if g.chunked || g.coding != nil {
		return errCoding
	}
	if g.http10 {
		return errCodingOld
	}
	if equalFold(value, "chunked") {
		g.chunked = true
		return nil
	}
	chunked := false
	for more := true; more; {
		var item []byte
		item, value, more = bytes.Cut(value, []byte{','})
		item = trimOWS(item)
		if chunked || !equalFold(item, "chunked") && !knownCoding(item) {
			return errCoding
		}
		chunked = equalFold(item, "chunked")
	}
	g.coding = errCodingOther
	return nil
}

func knownCoding(c []byte) bool {
	for _, k := range [...]string{"gzip", "deflate", "compress", "x-gzip", "x-compress", "br", "zstd"} {
		if equalFold(c, k) {
			return true
		}
	}
	return false
}

// headEnd judges what only the whole head shows; b begins with the head.
func (g *guard) headEnd(b []byte) *Violation {
	if g.hosts == 0 && !g.http10 {
		return errHostCount
	}
	if g.length >= 0 && (g.chunked || g.coding != nil) {
		return errBothFraming
	}
	if g.coding != nil {
		return g.coding
	}
	if g.authorityAt.to > 0 && g.hosts > 0 && !sameAuthority(g.authorityAt.of(b), g.hostAt.of(b), g.tls) {
		return errAuthority
	}
	return nil
}
