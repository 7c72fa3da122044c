package users

import (
	"net/http"
	"strconv"
	"strings"
)

func etagOf(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// tags are the entity tags of a list (RFC 9110, section 8.8.3), those that are
// weak with their W/. What is no list has none.
func tags(list string) []string {
	var out []string
	for {
		list = strings.TrimLeft(list, " \t,")
		if list == "" {
			return out
		}
		weak := strings.HasPrefix(list, "W/")
		rest := strings.TrimPrefix(list, "W/")
		if rest == "" || rest[0] != '"' {
			return nil
		}
		end := strings.IndexByte(rest[1:], '"')
		if end < 0 {
			return nil
		}
		tag := rest[:end+2]
		if list = rest[end+2:]; strings.Trim(list, " \t") != "" && strings.TrimLeft(list, " \t")[0] != ',' {
			return nil
		}
		if weak {
			tag = "W/" + tag
		}
		out = append(out, tag)
	}
}

// noneMatch reports whether If-None-Match says that the client has etag; the
// comparison is weak (RFC 9110, section 13.1.2).
func noneMatch(list, etag string) bool {
	if strings.TrimSpace(list) == "*" || list == etag {
		return true
	}
	for _, tag := range tags(list) {
		if strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}

// expected is what the request asks the user's version to be.
type expected struct {
	any      bool    // whatever it is
	versions []int64 // one of these
}

// preconditions reads If-Match (RFC 9110, section 13.1.1: the comparison is
// strong). A tag that the service never gave out matches nothing.
func preconditions(req *Request) (expected, error) {
	if _, ok := req.Lookup("If-None-Match"); ok {
		return expected{}, &FieldError{"If-None-Match", "is for reading; the user to change exists or it is a 404"}
	}
	list, ok := req.Lookup("If-Match")
	if !ok || strings.TrimSpace(list) == "*" {
		return expected{any: true}, nil
	}
	found := tags(list)
	if found == nil {
		return expected{}, &FieldError{"If-Match", `is no list of entity tags such as "3"`}
	}
	var e expected
	for _, tag := range found {
		n, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
		if err == nil && n > 0 && etagOf(n) == tag {
			e.versions = append(e.versions, n)
		}
	}
	return e, nil
}

// matches reports whether a version is one that is expected.
func (e expected) matches(version int64) bool {
	if e.any {
		return true
	}
	for _, v := range e.versions {
		if v == version {
			return true
		}
	}
	return false
}

// only is the version to expect of the store; 0: any. Where the client names
// several, current says which of them it is.
func (e expected) only(current func() (int64, error)) (int64, error) {
	switch {
	case e.any:
		return 0, nil
	case len(e.versions) == 1:
		return e.versions[0], nil
	}
	version, err := current()
	if err != nil {
		return 0, err
	}
	if !e.matches(version) {
		return 0, &Conflict{version}
	}
	return version, nil
}

// mediaType is the type of a request's body in lower case, without parameters.
// It is refused where its charset is not UTF-8.
func mediaType(req *Request) (string, error) {
	field, _ := req.Lookup("Content-Type")
	kind, params, _ := strings.Cut(field, ";")
	for params != "" {
		var param string
		param, params, _ = strings.Cut(params, ";")
		name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
		if strings.EqualFold(name, "charset") && !strings.EqualFold(strings.Trim(value, `"`), "utf-8") {
			return "", &problem{status: http.StatusUnsupportedMediaType, detail: "JSON is UTF-8",
				fields: []*FieldError{{"Content-Type", "names another charset than utf-8"}}}
		}
	}
	return strings.ToLower(strings.TrimSpace(kind)), nil
}
