package users

import (
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"
)

// timeForm is how times are written: UTC, always in microseconds, so that they
// sort as text.
const timeForm = "2006-01-02T15:04:05.000000Z"

// AppendJSON appends u as clients see it.
func (u *User) AppendJSON(b []byte) []byte {
	b = append(b, `{"id":`...)
	b = appendText(b, u.ID)
	b = append(b, `,"name":`...)
	b = appendText(b, u.Name)
	b = append(b, `,"email":`...)
	b = appendText(b, u.Email)
	b = append(b, `,"region":`...)
	b = appendText(b, u.Region)
	b = append(b, `,"attributes":`...)
	if len(u.Attributes) == 0 {
		b = append(b, "{}"...)
	} else {
		b = append(b, u.Attributes...)
	}
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, u.Version, 10)
	b = append(b, `,"created_at":"`...)
	b = appendTime(b, u.CreatedAt)
	b = append(b, `","updated_at":"`...)
	b = appendTime(b, u.UpdatedAt)
	return append(b, `"}`...)
}

func appendTime(b []byte, t time.Time) []byte { return t.UTC().AppendFormat(b, timeForm) }

// appendText appends s as a JSON string. What is no UTF-8 becomes U+FFFD.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r)
			i += n
			continue
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c == 0x7f || c == '<' || c == '>' || c == '&':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
		i++
	}
	return append(b, '"')
}

// appendPage appends a list as clients see it.
func appendPage(b []byte, p *Page, next string, partial bool) []byte {
	b = append(b, `{"users":[`...)
	for i := range p.Users {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.Users[i].AppendJSON(b)
	}
	b = append(b, `],"next_cursor":`...)
	b = appendText(b, next)
	if partial {
		b = append(b, `,"complete":`...)
		b = strconv.AppendBool(b, len(p.Missing) == 0)
		b = append(b, `,"missing":[`...)
		for i, name := range p.Missing {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendText(b, name)
		}
		b = append(b, ']')
	}
	return append(b, "}\n"...)
}

// appendChecks appends what /health found. Why something failed is for the log.
func appendChecks(b []byte, ok bool, checks []Check) []byte {
	b = append(b, `{"status":`...)
	b = appendText(b, map[bool]string{true: "ok", false: "failing"}[ok])
	b = append(b, `,"checks":{`...)
	for i, c := range checks {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, c.Name), ':')
		b = appendText(b, map[bool]string{true: "ok", false: "failing"}[c.Err == nil])
	}
	b = append(b, `},"failing":[`...)
	first := true
	for _, c := range checks {
		if c.Err == nil {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendText(b, c.Name)
	}
	return append(b, "]}\n"...)
}

// appendProblem appends a problem document (RFC 9457, section 3).
func appendProblem(b []byte, status int, detail, id string, fields []*FieldError) []byte {
	b = append(b, `{"type":"about:blank","title":`...)
	b = appendText(b, http.StatusText(status))
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, `,"detail":`...)
	b = appendText(b, detail)
	if len(fields) > 0 {
		b = append(b, `,"errors":[`...)
		for i, f := range fields {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"field":`...)
			b = appendText(b, f.Field)
			b = append(b, `,"detail":`...)
			b = append(appendText(b, f.Why), '}')
		}
		b = append(b, ']')
	}
	if id != "" {
		b = append(b, `,"request_id":`...)
		b = appendText(b, id)
	}
	return append(b, "}\n"...)
}
