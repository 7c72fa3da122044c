package routing

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
)

// A kind of path pattern. The higher is the more specific.
type kind uint8

const (
	noPath     kind = iota
	prefixPath      // /x/*, with or without parameters
	regexPath       // re:^/…$
	paramPath       // /u/{id}
	exactPath       // /x
)

// A pattern is a rule's path.
type pattern struct {
	kind    kind
	text    string // as in the file
	segs    []segment
	re      *regexp.Regexp
	literal string // exactPath: the normal form; regexPath: what every path begins with that it takes
}

// A segment is what stands between slashes in a pattern.
type segment struct {
	literal string // in normal form
	param   bool   // one segment, whatever it is, but not empty
}

// parsePattern reads a rule's path.
func parsePattern(s string) (pattern, error) {
	p := pattern{text: s}
	if s == "" {
		return p, nil
	}
	if expr, ok := strings.CutPrefix(s, "re:"); ok {
		var err error
		p.kind = regexPath
		p.re, p.literal, err = parseRegexp(expr)
		return p, err
	}
	rest, ok := strings.CutPrefix(s, "/")
	if !ok {
		return p, errors.New("must begin with a slash, or be re: and a regular expression")
	}
	p.kind = exactPath
	if rest == "*" {
		p.kind = prefixPath
		return p, nil
	}
	if head, ok := strings.CutSuffix(rest, "/*"); ok {
		p.kind, rest = prefixPath, head
	}
	names := map[string]bool{}
	for more := true; more; {
		var text string
		text, rest, more = strings.Cut(rest, "/")
		seg, err := parseSegment(text, names)
		if err != nil {
			return p, err
		}
		if text == "" && (more || p.kind == prefixPath) {
			return p, errors.New("has an empty segment")
		}
		if seg.param && p.kind == exactPath {
			p.kind = paramPath
		}
		p.segs = append(p.segs, seg)
		p.literal += "/" + seg.literal
	}
	return p, nil
}

// parseSegment reads one segment; names are the parameters seen so far.
func parseSegment(text string, names map[string]bool) (segment, error) {
	if name, ok := strings.CutPrefix(text, "{"); ok && strings.HasSuffix(name, "}") {
		name = strings.TrimSuffix(name, "}")
		switch {
		case !paramName.MatchString(name):
			return segment{}, fmt.Errorf("%q is not a parameter: letters, digits, _ and -, please", text)
		case names[name]:
			return segment{}, fmt.Errorf("the parameter %q stands here twice", text)
		}
		names[name] = true
		return segment{param: true}, nil
	}
	switch {
	case strings.ContainsAny(text, "{}"):
		return segment{}, fmt.Errorf("%q: a parameter is a whole segment; a brace itself is %%7B or %%7D", text)
	case strings.Contains(text, "*"):
		return segment{}, fmt.Errorf("%q: an asterisk stands only at the end, after a slash; the character itself is %%2A", text)
	case strings.Contains(text, "?"):
		return segment{}, fmt.Errorf("%q: the query belongs into match.query; the character itself is %%3F", text)
	}
	literal, err := normalLiteral(text)
	return segment{literal: literal}, err
}

var paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// normalLiteral returns the normal form of a segment of a pattern, which may
// hold raw what a request has to encode.
func normalLiteral(text string) (string, error) {
	raw := []byte{'/'}
	for i := range len(text) {
		if c := text[i]; c == ' ' || c > 0x7f {
			raw = fmt.Appendf(raw, "%%%02X", c)
		} else {
			raw = append(raw, c)
		}
	}
	normal, _, err := Paths{EncodedSlash: EncodedSlashKeep}.Normalize(nil, raw)
	if err != nil {
		return "", fmt.Errorf("no request has such a path: %w", err)
	}
	if text != "" && string(normal) == "/" {
		return "", errors.New("has a dot segment, which the path of a request never has")
	}
	return string(normal[1:]), nil
}

// parseRegexp compiles expr and finds the literal that everything it takes
// begins with, so that most regular expressions are never run.
func parseRegexp(expr string) (*regexp.Regexp, string, error) {
	if expr == "" {
		return nil, "", errors.New("the regular expression is empty")
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, "", err
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, "", err
	}
	tree = tree.Simplify()
	if tree.Op != syntax.OpConcat || tree.Sub[0].Op != syntax.OpBeginText {
		return re, "", nil
	}
	lit := tree.Sub[1]
	if lit.Op != syntax.OpLiteral || lit.Flags&syntax.FoldCase != 0 {
		return re, "", nil
	}
	return re, string(lit.Rune), nil
}

// matches reports whether the pattern takes path. Tables find all but regular
// expressions by their tree; this is for explaining.
func (p *pattern) matches(path string) bool {
	switch p.kind {
	case noPath:
		return true
	case regexPath:
		return strings.HasPrefix(path, p.literal) && p.re.MatchString(path)
	}
	if !strings.HasPrefix(path, "/") {
		return false
	}
	for _, seg := range p.segs {
		rest, ok := strings.CutPrefix(path, "/")
		if !ok {
			return false
		}
		i := strings.IndexByte(rest, '/')
		if i < 0 {
			i = len(rest)
		}
		if seg.param && i == 0 || !seg.param && rest[:i] != seg.literal {
			return false
		}
		path = rest[i:]
	}
	return path == "" || p.kind == prefixPath && path[0] == '/'
}

// literals counts the literal segments.
func (p *pattern) literals() (n int) {
	for _, seg := range p.segs {
		if !seg.param {
			n++
		}
	}
	return n
}

// shape has a letter a segment: of two patterns with as many segments, the one
// that is first literal where the other has a parameter has the lower shape.
func (p *pattern) shape() string {
	var b strings.Builder
	for _, seg := range p.segs {
		if seg.param {
			b.WriteByte('p')
		} else {
			b.WriteByte('l')
		}
	}
	return b.String()
}
