package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Join extends a YAML path by keys (strings) and list positions (ints), and
// quotes the keys that need it: Join("backends", "a.b", "targets", 0) is
// `backends["a.b"].targets[0]`.
func Join(path string, parts ...any) string {
	var b strings.Builder
	b.WriteString(path)
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			fmt.Fprintf(&b, "[%d]", part)
		case string:
			if part == "" || strings.ContainsFunc(part, unfit) {
				fmt.Fprintf(&b, "[%s]", strconv.Quote(part))
				continue
			}
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(part)
		default:
			panic(fmt.Sprintf("config: Join of a %T", part))
		}
	}
	return b.String()
}

func unfit(r rune) bool {
	return strings.ContainsRune(`.[]"\`, r) || !strconv.IsPrint(r) || r == ' '
}

// under puts a relative path below another.
func under(path, sub string) string {
	if path == "" || sub == "" || sub[0] == '[' {
		return path + sub
	}
	return path + "." + sub
}

// within reports whether path is outer or lies in it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (outer == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// steps takes a path apart into strings and ints; it stops at what it cannot read.
func steps(path string) []any {
	var out []any
	for path != "" {
		path = strings.TrimPrefix(path, ".")
		if path == "" {
			break
		}
		if path[0] != '[' {
			end := strings.IndexAny(path, ".[")
			if end < 0 {
				end = len(path)
			}
			if end == 0 {
				return out
			}
			out, path = append(out, path[:end]), path[end:]
			continue
		}
		step, rest, ok := bracket(path[1:])
		if !ok {
			return out
		}
		out, path = append(out, step), rest
	}
	return out
}

// bracket reads `0]…` or `"key"]…`.
func bracket(s string) (step any, rest string, ok bool) {
	if quoted, err := strconv.QuotedPrefix(s); err == nil {
		key, _ := strconv.Unquote(quoted)
		rest, ok = strings.CutPrefix(s[len(quoted):], "]")
		return key, rest, ok
	}
	digits, rest, ok := strings.Cut(s, "]")
	i, err := strconv.Atoi(digits)
	return i, rest, ok && err == nil
}

// lookup walks to path and returns the last node met, and whether that is it.
func (d *Document) lookup(path string) (*node, bool) {
	n := d.root
	for _, step := range steps(path) {
		var next *node
		switch step := step.(type) {
		case int:
			if n.kind == listNode && step >= 0 && step < len(n.items) {
				next = n.items[step]
			}
		case string:
			next = n.child(step)
		}
		if next == nil {
			return n, false
		}
		n = next
	}
	return n, true
}

func (d *Document) nearest(path string) *node {
	n, _ := d.lookup(path)
	return n
}
