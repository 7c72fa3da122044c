package upstream

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unsafe"
)

// request makes of the call's request what x/net takes. It copies every byte:
// x/net may still encode it when the call is over.
func (s *stream) request() *http.Request {
	r := &s.Request
	text := newText(r)
	scheme := "http"
	if s.p.target.tls != nil {
		scheme = "https"
	}
	header := make(map[string][]string, len(r.Fields)+2) // by names in lower case
	out := &http.Request{Method: text.add(r.Method), Host: s.p.target.host, Header: header, Trailer: s.trailer}
	values := make([]string, len(r.Fields))
	for i, f := range r.Fields {
		name := text.lower(f.Name)
		switch name {
		case "host":
			out.Host = text.add(f.Value)
		case "content-length", "connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade":
		default:
			values[i] = text.add(f.Value)
			if have := header[name]; have != nil {
				header[name] = append(have, values[i])
			} else {
				header[name] = values[i : i+1 : i+1]
			}
		}
	}
	if _, ok := header["user-agent"]; !ok {
		header["user-agent"] = nil // or x/net makes one up
	}
	if r.TrailersWanted {
		header["te"] = []string{"trailers"}
	}
	target := text.add(r.Target)
	if strings.HasPrefix(target, "//") {
		// Else it would be taken for an authority.
		target = "//" + out.Host + target
	}
	out.URL = &url.URL{Scheme: scheme, Host: out.Host, Opaque: target}
	if s.up != nil {
		out.Body, out.ContentLength = s.up, r.ContentLength
	}
	return out.WithContext(s.trace())
}

// A text is one piece of memory for all strings of a request.
type text []byte

func newText(r *Request) *text {
	size := len(r.Method) + len(r.Target)
	for _, f := range r.Fields {
		size += len(f.Name) + len(f.Value)
	}
	t := make(text, 0, size)
	return &t
}

func (t *text) add(b []byte) string {
	from := len(*t)
	*t = append(*t, b...)
	return view((*t)[from:])
}

func (t *text) lower(b []byte) string {
	from := len(*t)
	for _, c := range b {
		*t = append(*t, lower(c))
	}
	return view((*t)[from:])
}

// view is b as a string, without copying: nobody may write to b any more.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// bytesOf is s as bytes, without copying: nobody may write to them.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// addTrailer takes the fields that end the request's body, from the goroutine
// that read it.
func (s *stream) addTrailer() {
	if s.trailer == nil {
		return
	}
	for _, f := range s.Request.Trailer() {
		name := http.CanonicalHeaderKey(string(f.Name))
		s.trailer[name] = append(s.trailer[name], string(f.Value))
	}
}

var errStatus = errors.New("status is not in 200 to 599")

// finishHead checks what x/net does not check of a final head, and makes it the
// call's. x/net keeps no order of names, so they are sorted; it has dropped the
// fields that belong to a connection.
func (s *stream) finishHead(r *http.Response) error {
	s.response = r
	s.mu.Lock()
	s.late = true
	s.head.set(0)
	s.body = r.Body
	if s.aborted {
		s.hangUp()
	}
	s.mu.Unlock()
	if r.StatusCode < 200 || r.StatusCode > 599 {
		return protocolError(errStatus)
	}
	for name := range r.Trailer {
		r.Header["Trailer"] = append(r.Header["Trailer"], name)
	}
	if names := r.Header["Trailer"]; len(names) > 1 {
		slices.Sort(names)
		r.Header["Trailer"] = []string{strings.Join(names, ", ")}
	}
	fields, err := sorted(r.Header)
	if err != nil {
		return protocolError(err)
	}
	if err := s.frame(r); err != nil {
		return protocolError(err)
	}
	if r.StatusCode == 204 {
		fields = slices.DeleteFunc(fields, func(f Field) bool { return string(f.Name) == "Content-Length" })
	}
	s.final = true
	s.Response.Status = r.StatusCode
	s.Response.Fields = fields
	s.Response.ContentLength = s.rest
	return nil
}

// frame decides how long the body is. A head that ends the stream, and yet
// announces a body, is found out by the first Read.
func (s *stream) frame(r *http.Response) error {
	if length := r.Header["Content-Length"]; len(length) > 0 {
		if _, ok := parseLength(bytesOf(length[0])); !ok || len(length) > 1 {
			return errLength
		}
	}
	s.rest = r.ContentLength
	if r.StatusCode == 204 || r.StatusCode == 304 || string(s.Method) == "HEAD" {
		s.bodyless, s.rest = true, 0
	}
	return nil
}

// sorted gives the fields of h in the order of their names, which is some order
// that is always the same; those of one name are in their own.
func sorted(h http.Header) ([]Field, error) {
	fields, size := make([]Field, 0, len(h)), 0
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			f := Field{bytesOf(name), bytesOf(value)}
			if len(f.Name) == 0 || strings.ContainsFunc(name, func(c rune) bool { return c > 0x7f || !tokenByte[c] }) {
				return nil, errFieldName
			}
			if !validValue(f.Value) {
				return nil, errFieldValue
			}
			fields = append(fields, f)
			size += len(name) + len(value)
		}
	}
	switch {
	case len(fields) > maxFields:
		return nil, errFieldCount
	case size > maxHead:
		return nil, errHeadSize
	}
	return fields, nil
}

// finishTrailer takes the trailer section over, and returns io.EOF or why it
// is not acceptable.
func (s *stream) finishTrailer() error {
	fields, err := sorted(s.response.Trailer)
	if err != nil {
		return protocolError(err)
	}
	for _, f := range fields {
		if forbiddenTrailer(f.Name) {
			return protocolError(errTrailerField)
		}
	}
	if len(fields) > 0 {
		s.Response.Trailer = fields
	}
	return io.EOF
}
