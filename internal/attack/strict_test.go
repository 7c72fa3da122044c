package attack_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A field is one header field as it was on the wire, the value trimmed.
type field struct{ name, value string }

// A request is what the upstream read.
type request struct {
	line, method, target string
	fields               []field
	trailers             []field
	chunked              bool
	body                 string
	raw                  string // head
	whole                bool   // the body was read to its end
}

func (r *request) all(name string) (values []string) {
	for _, f := range r.fields {
		if strings.EqualFold(f.name, name) {
			values = append(values, f.value)
		}
	}
	return values
}

func (r *request) get(name string) string { return strings.Join(r.all(name), "|") }

var errMore = errors.New("incomplete")

// parseHead reads a request's head with no leniency at all. It returns errMore
// where what is there could become a good one.
func parseHead(b []byte) (r *request, n int, err error) {
	lines, n, err := section(b, 0)
	if err != nil {
		return nil, 0, err
	}
	if len(lines) == 0 {
		return nil, 0, errors.New("an empty line where a request line should be")
	}
	parts := strings.Split(lines[0], " ")
	if len(parts) != 3 || !token(parts[0]) || parts[2] != "HTTP/1.1" || !goodTarget(parts[0], parts[1]) {
		return nil, 0, fmt.Errorf("request line %q", lines[0])
	}
	r = &request{line: lines[0], method: parts[0], target: parts[1], raw: string(b[:n])}
	if r.fields, err = fieldsOf(lines[1:]); err != nil {
		return nil, 0, err
	}
	if hosts := r.all("Host"); len(hosts) != 1 || strings.ContainsAny(hosts[0], " ,@/\\\"#?") {
		return nil, 0, fmt.Errorf("Host %q", hosts)
	}
	coding, length := r.all("Transfer-Encoding"), r.all("Content-Length")
	switch {
	case len(coding)+len(length) > 1, len(coding) == 1 && coding[0] != "chunked":
		return nil, 0, fmt.Errorf("framing %q %q", coding, length)
	case len(length) == 1:
		if v, err := strconv.ParseUint(length[0], 10, 63); err != nil || strconv.FormatUint(v, 10) != length[0] {
			return nil, 0, fmt.Errorf("Content-Length %q", length)
		}
	}
	r.chunked = len(coding) == 1
	return r, n, nil
}

func goodTarget(method, t string) bool {
	for i := range len(t) {
		if t[i] <= ' ' || t[i] >= 0x7f || t[i] == '#' {
			return false
		}
	}
	return strings.HasPrefix(t, "/") || t == "*" && method == "OPTIONS"
}

// section cuts a head or a trailer section that starts at b[from] into lines.
func section(b []byte, from int) (lines []string, end int, err error) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			if bytes.ContainsAny(b[from:], "\x00") {
				return nil, 0, errors.New("NUL in a head")
			}
			return nil, 0, errMore
		}
		if i == 0 || b[from+i-1] != '\r' {
			return nil, 0, fmt.Errorf("a line ends without CRLF: %q", b[from:from+i+1])
		}
		line := string(b[from : from+i-1])
		from += i + 1
		if line == "" {
			return lines, from, nil
		}
		lines = append(lines, line)
	}
}

func fieldsOf(lines []string) (fields []field, err error) {
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !token(name) {
			return nil, fmt.Errorf("field name in %q", line)
		}
		for i := range len(value) {
			if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
				return nil, fmt.Errorf("field value in %q", line)
			}
		}
		fields = append(fields, field{name, strings.Trim(value, " \t")})
	}
	return fields, nil
}

func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
		if !alnum && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// parseBody reads r's body from b, which begins behind the head.
func parseBody(r *request, b []byte) (n int, err error) {
	if !r.chunked {
		want, _ := strconv.Atoi(r.get("Content-Length")) // found valid before
		if len(b) < want {
			return 0, errMore
		}
		r.body = string(b[:want])
		return want, nil
	}
	var lines []string
	if r.body, lines, n, err = dechunk(b); err != nil {
		return 0, err
	}
	r.trailers, err = fieldsOf(lines)
	return n, err
}

// dechunk reads a chunked body strictly: hexadecimal digits, CRLF, no
// extensions.
func dechunk(b []byte) (body string, trailer []string, n int, err error) {
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return body, nil, n, errMore
		}
		size, ok := strings.CutSuffix(string(b[n:n+i]), "\r")
		if !ok || size == "" || len(size) > 16 || strings.Trim(size, "0123456789abcdefABCDEF") != "" {
			return body, nil, n, fmt.Errorf("chunk size %q", b[n:n+i+1])
		}
		v, err := strconv.ParseInt(size, 16, 64)
		if err != nil {
			return body, nil, n, err
		}
		n += i + 1
		if v == 0 {
			trailer, n, err = section(b, n)
			return body, trailer, n, err
		}
		if int64(len(b)-n) < v+2 {
			return body + string(b[n:min(len(b), n+int(v))]), nil, n, errMore
		}
		body += string(b[n : n+int(v)])
		if n += int(v) + 2; string(b[n-2:n]) != "\r\n" {
			return body, nil, n, errors.New("chunk data without CRLF")
		}
	}
}
