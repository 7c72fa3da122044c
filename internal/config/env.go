package config

import (
	"fmt"
	"regexp"
	"strings"
)

var reference = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}`)

// expand puts environment variables into s. As in a shell, ":-" also replaces
// an empty variable. Whole says that s is a single reference.
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
			m := reference.FindStringSubmatch(rest)
			if m == nil {
				return s, false, fmt.Sprintf("%q is neither ${NAME} nor ${NAME:-default}; write $${ for a literal ${", clip(rest))
			}
			value, ok := lookupEnv(env, m[1])
			if m[2] != "" && value == "" {
				value, ok = m[3], true
			}
			if !ok {
				return s, false, fmt.Sprintf("the environment variable %s is not set; set it, or write ${%s:-default}", m[1], m[1])
			}
			whole = len(m[0]) == len(s)
			b.WriteString(value)
			rest = rest[len(m[0]):]
		default:
			b.WriteByte('$')
			rest = rest[1:]
		}
	}
	return b.String(), whole, ""
}

func lookupEnv(env func(string) (string, bool), name string) (string, bool) {
	if env == nil {
		return "", false
	}
	return env(name)
}
