package proxy

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// respondBackend gives one fixed answer.
type respondBackend struct {
	status int
	fields []Field
	body   []byte
}

func newRespond(s Setup) (Backend, error) {
	spec := Respond{Status: 200}
	if err := s.Decode(&spec); err != nil {
		return nil, err
	}
	b := &respondBackend{status: spec.Status, body: []byte(spec.Body)}
	if spec.Body != "" && (spec.Status == 204 || spec.Status == 304) {
		return nil, &SpecError{"body", fmt.Errorf("status %d has no body", spec.Status)}
	}
	typed := spec.Body == ""
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(spec.Headers)) {
		if err := errors.Join(checkName(name), checkValue(spec.Headers[name])); err != nil {
			faults = append(faults, &SpecError{below("headers", name), err})
		}
		typed = typed || strings.EqualFold(name, "Content-Type")
		b.fields = append(b.fields, Field{Name: []byte(name), Value: []byte(spec.Headers[name])})
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if !typed {
		b.fields = append(b.fields, Field{Name: []byte("Content-Type"), Value: []byte("text/plain; charset=utf-8")})
	}
	return b, nil
}

// Serve answers.
func (b *respondBackend) Serve(x *Exchange) error {
	r := &x.Response
	r.Status = b.status
	r.Header.Fields = append(r.Header.Fields[:0], b.fields...)
	x.memory = memoryBody{all: b.body}
	r.Body, r.ContentLength = &x.memory, int64(len(b.body))
	return nil
}

// redirectBackend sends the client elsewhere.
type redirectBackend struct {
	status int
	parts  []string // literal, placeholder, literal, …
}

var placeholders = []string{"scheme", "host", "uri", "path", "query"}

func newRedirect(s Setup) (Backend, error) {
	spec := Redirect{Status: 308}
	if err := s.Decode(&spec); err != nil {
		return nil, err
	}
	b := &redirectBackend{status: spec.Status}
	if err := errors.Join(checkValue(spec.To), checkLocation(spec.To)); err != nil {
		return nil, &SpecError{"to", err}
	}
	rest := spec.To
	for {
		literal, after, found := strings.Cut(rest, "{")
		b.parts = append(b.parts, literal)
		if !found {
			return b, nil
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return nil, &SpecError{"to", fmt.Errorf("the brace of {%s is not closed", name)}
		}
		if !slices.Contains(placeholders, name) {
			return nil, &SpecError{"to", fmt.Errorf("{%s} is none of {%s}", name, strings.Join(placeholders, "}, {"))}
		}
		b.parts = append(b.parts, name)
		rest = tail
	}
}

var locationForm = regexp.MustCompile(`^(/([^/\\]|$)|\{|[A-Za-z][A-Za-z0-9+.-]*://[^/?#])`)

// checkLocation refuses what clients would read as something else than a URL or
// a path from the root: example.com is a path beside the one that was asked for.
func checkLocation(to string) error {
	if to != "" && !locationForm.MatchString(to) {
		return fmt.Errorf("%q is neither a URL such as https://example.com{uri} nor a path such as /new{uri}", to)
	}
	return nil
}

// Serve answers with the Location that the request's parts make.
func (b *redirectBackend) Serve(x *Exchange) error {
	var to strings.Builder
	for i, part := range b.parts {
		if i%2 == 1 {
			part = b.value(x, part)
		}
		to.WriteString(part)
	}
	location := to.String()
	if strings.HasPrefix(location, "//") || strings.HasPrefix(location, `/\`) {
		// A path of the client's must not become the name of another host.
		location = "/" + strings.TrimLeft(location, `/\`)
	}
	x.Response.Status = b.status
	x.Response.Header.Add("Location", location)
	return nil
}

func (b *redirectBackend) value(x *Exchange, name string) string {
	r := &x.Request
	switch name {
	case "scheme":
		return r.Scheme
	case "host":
		return hostName(view(r.Host))
	case "uri":
		return view(x.forward)
	case "path":
		return view(pathOf(x.forward))
	}
	return view(r.Query)
}

// hostName is an authority without its port.
func hostName(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		return authority[:i]
	}
	return authority
}
