package config

import (
	"fmt"
	"regexp"
	"strings"
)

var variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(:-|\})`)

// expand puts environment variables into s. As in a shell, ":-" also replaces
// an empty variable, and what follows it may hold references of its own. Whole
// says that s is a single reference.
func expand(s string, env func(string) (string, bool)) (out string, whole bool, problem string) {
	if !strings.Contains(s, "${") {
		return s, false, ""
	}
	var b strings.Builder
	for rest := s; rest != ""; {
		i := strings.IndexByte(rest, '$')
		if i < 0 {
			b.WriteString(rest)
			break
		}
		b.WriteString(rest[:i])
		rest = rest[i:]
		switch {
		case strings.HasPrefix(rest, "$${"):
			b.WriteString("${")
			rest = rest[3:]
		case strings.HasPrefix(rest, "${"):
			value, n, problem := expandOne(rest, env)
			if problem != "" {
				return s, false, problem
			}
			whole = n == len(s)
			b.WriteString(value)
			rest = rest[n:]
		default:
			b.WriteByte('$')
			rest = rest[1:]
		}
	}
	return b.String(), whole, ""
}

// expandOne is the value of the reference that s begins with, and its length.
func expandOne(s string, env func(string) (string, bool)) (value string, n int, problem string) {
	m := variable.FindStringSubmatch(s)
	if m == nil {
		return "", 0, notReference(s)
	}
	value, ok := lookupEnv(env, m[1])
	if m[2] == "}" {
		if !ok {
			return "", 0, fmt.Sprintf("the environment variable %s is not set; set it, or write ${%s:-default}", m[1], m[1])
		}
		return value, len(m[0]), ""
	}
	n = closing(s, len(m[0]))
	if n < 0 {
		return "", 0, notReference(s)
	}
	if value == "" {
		value, _, problem = expand(s[len(m[0]):n], env)
	}
	return value, n + 1, problem
}

// closing is where the default ends that begins at s[i:]: at the first } that
// ends no reference inside it, or -1. Sixteen inside each other are enough for
// anybody, and keep what a file can cost small.
func closing(s string, i int) int {
	for depth := 0; i < len(s) && depth <= 16; i++ {
		switch {
		case strings.HasPrefix(s[i:], "$${"):
			i += 2
		case strings.HasPrefix(s[i:], "${"):
			depth++
			i++
		case s[i] == '}' && depth == 0:
			return i
		case s[i] == '}':
			depth--
		}
	}
	return -1
}

func notReference(s string) string {
	return fmt.Sprintf("%q is neither ${NAME} nor ${NAME:-default}; write $${ for a literal ${", clip(s))
}

func lookupEnv(env func(string) (string, bool), name string) (string, bool) {
	if env == nil {
		return "", false
	}
	return env(name)
}
