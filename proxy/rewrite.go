package proxy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A rewriter changes the path and the Host that a backend is asked for.
type rewriter struct {
	strip, add string
	from       *regexp.Regexp
	to         string
	host       string
}

func newRewriter(spec Rewrite) (*rewriter, error) {
	if spec == (Rewrite{}) {
		return nil, nil
	}
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, &SpecError{key, fmt.Errorf(format, args...)})
	}
	w := &rewriter{strip: strings.TrimSuffix(spec.StripPrefix, "/"), add: strings.TrimSuffix(spec.AddPrefix, "/"), to: spec.Replace.To, host: spec.Host}
	for _, p := range [][2]string{{"strip_prefix", spec.StripPrefix}, {"add_prefix", spec.AddPrefix}} {
		if p[1] != "" && p[1][0] != '/' {
			fault(p[0], "%q does not begin with a slash", p[1])
		}
	}
	if spec.Host != "" {
		if err := checkHost(spec.Host); err != nil {
			fault("host", "%w", err)
		}
	}
	if spec.Replace.From != "" {
		pattern, ok := strings.CutPrefix(spec.Replace.From, "re:")
		if !ok {
			pattern = regexp.QuoteMeta(spec.Replace.From)
			w.to = strings.ReplaceAll(w.to, "$", "$$")
		}
		var err error
		if w.from, err = regexp.Compile(pattern); err != nil {
			fault("replace.from", "%w", err)
		}
	} else if spec.Replace.To != "" {
		fault("replace", "to is said, from is missing")
	}
	return w, errors.Join(faults...)
}

// path is what becomes of the normal form of a path: "" where nothing is left
// of it, which tells a folder's own name from what is in the folder.
func (w *rewriter) path(path string) string {
	if rest, ok := strings.CutPrefix(path, w.strip); ok && w.strip != "" && (rest == "" || rest[0] == '/') {
		path = rest
	}
	if w.from != nil {
		if path = w.from.ReplaceAllString(path, w.to); path == "" || path[0] != '/' {
			path = "/" + path
		}
	}
	if w.add != "" {
		path = w.add + path
	}
	return path
}

// rewrite sets what the backend is asked for: the client's own bytes, or a path
// made anew from the normal form where the route rewrites it, and where the
// client's had dot segments: a backend that does not resolve them would take
// /admin/../public for something below /admin.
func (x *Exchange) rewrite() {
	r, w := &x.Request, x.route.rewrite
	x.forward = r.Target
	path := view(r.Path)
	switch {
	case len(path) == 0 || path[0] != '/':
		return
	case w != nil:
		x.host = first(w.host, x.host)
		if path = w.path(path); path == view(r.Path) && !x.dotted {
			return
		}
		r.Path = []byte(path)
	case !x.dotted:
		return
	}
	target := appendEscaped(make([]byte, 0, len(path)+len(r.Query)+2), first(path, "/"))
	if len(r.Query) > 0 {
		target = append(append(target, '?'), r.Query...)
	}
	x.forward = target
}

// appendEscaped appends a normal form as a path of a request target: what may
// stand there as it is (RFC 3986, section 3.3), the percent signs of what stays
// encoded among it.
func appendEscaped(b []byte, path string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(path) {
		c := path[i]
		if c > ' ' && c < 0x7f && strings.IndexByte("\"#<>?[\\]^`{|}", c) < 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
