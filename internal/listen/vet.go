package listen

import (
	"bytes"
	"net/http"
	"strings"
)

// vet is for requests that did not come as HTTP/1 what the guard is for those
// that did: what it lets through can be written as an HTTP/1.1 head without
// meaning anything else there (RFC 9113, section 8.2.1 and 10.3).
func vet(r *http.Request) *Violation {
	if v := vetLine(r); v != nil {
		return v
	}
	fields := 0
	for name, values := range r.Header {
		if fields += len(values); fields > maxFields {
			return errFieldCount
		}
		if v := vetField(name, values); v != nil {
			return v
		}
	}
	for name := range r.Trailer {
		if !allOf([]byte(name), clsToken) || !trailerAllowed([]byte(name)) {
			return errTrailerField
		}
	}
	return nil
}

// vetLine examines the pseudo-header fields.
func vetLine(r *http.Request) *Violation {
	if r.Method == "" || len(r.Method) > maxMethod || !allOf([]byte(r.Method), clsToken) {
		return errMethod
	}
	switch strings.ToUpper(r.Method) {
	case http.MethodTrace:
		return errTrace
	case http.MethodConnect:
		return errConnect
	}
	target := []byte(r.RequestURI)
	switch {
	case len(target) > maxTarget:
		return errTargetLong
	case len(target) == 0, !allOf(target, clsTarget):
		return errTarget
	case target[0] == '/', string(target) == "*" && r.Method == http.MethodOptions:
	default:
		return errTarget
	}
	if _, _, ok := splitAuthority([]byte(r.Host)); !ok {
		return errHost
	}
	return nil
}

func vetField(name string, values []string) *Violation {
	if name == "" || !allOf([]byte(name), clsToken) {
		return errFieldName
	}
	if strings.IndexByte(name, '_') >= 0 && imitates([]byte(name)) {
		return errFieldAlias
	}
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
		return errHop
	case "Te":
		if len(values) != 1 || values[0] != "trailers" {
			return errHop
		}
	case "Host":
		return errHostCount // the authority is what :authority said
	case "Content-Length":
		if len(values) != 1 {
			return errLengthTwice
		}
		g := guard{length: -1}
		if v := g.contentLength([]byte(values[0])); v != nil {
			return v
		}
	case "Expect":
		if len(values) != 1 || !strings.EqualFold(values[0], "100-continue") {
			return errExpect
		}
	}
	for _, value := range values {
		if len(value) > maxField {
			return errHeadLarge
		}
		if !allOf([]byte(value), clsValue) || len(bytes.TrimSpace([]byte(value))) != len(value) {
			return errFieldValue
		}
	}
	return nil
}
