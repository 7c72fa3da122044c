package users

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"
)

const maxBody = 64 << 10 // bytes of a request's body

// brokenBody says that a body ended before its end, or is not to be read.
type brokenBody struct{ err error }

func (b *brokenBody) Error() string { return b.err.Error() }

// An object is a JSON object as a client wrote it: its members once each.
type object map[string]json.RawMessage

// readBody reads the request's body, which has to be of one of kinds. What is of
// no type at all is taken for JSON, and so is what curl -d calls a form.
func readBody(req *Request, kinds ...string) ([]byte, error) {
	if coding, ok := req.Lookup("Content-Encoding"); ok && !strings.EqualFold(coding, "identity") {
		return nil, &problem{status: http.StatusUnsupportedMediaType,
			detail: "the body has to come as it is",
			fields: []*FieldError{{"Content-Encoding", "names a coding"}}}
	}
	kind, err := mediaType(req)
	if err != nil {
		return nil, err
	}
	if kind != "" && !slices.Contains(kinds, kind) {
		return nil, &problem{status: http.StatusUnsupportedMediaType,
			detail: "the body has to be " + kinds[0],
			fields: []*FieldError{{"Content-Type", "is not " + kinds[0]}}}
	}
	return readUpTo(req, maxBody)
}

// readUpTo reads the request's body, of that many bytes at most.
func readUpTo(req *Request, most int) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	var body bytes.Buffer
	if _, err := io.Copy(&body, io.LimitReader(req.Body, int64(most)+1)); err != nil {
		return nil, &brokenBody{err}
	}
	if body.Len() > most {
		return nil, &problem{status: http.StatusRequestEntityTooLarge, detail: fmt.Sprintf("the body is larger than %d bytes", most)}
	}
	return body.Bytes(), nil
}

const formType = "application/x-www-form-urlencoded"

// parseObject reads a JSON object strictly: UTF-8, no member twice, nothing after
// it.
func parseObject(body []byte) (object, error) {
	bad := func(why string) (object, error) { return nil, &FieldError{"", why} }
	if len(bytes.TrimSpace(body)) == 0 {
		return bad("the body is empty; a JSON object is expected")
	}
	if !utf8.Valid(body) {
		return bad("the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	open, err := d.Token()
	if err != nil {
		return bad("the body is not JSON" + where(err, d))
	}
	if open != json.Delim('{') {
		return bad("the body is not a JSON object")
	}
	out := object{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return bad("the body is not JSON" + where(err, d))
		}
		name := key.(string) // within an object, where names come
		if _, twice := out[name]; twice {
			return nil, &FieldError{clip(name), "comes twice"}
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, &FieldError{clip(name), "is not JSON" + where(err, d)}
		}
		if loneSurrogate(value) {
			return nil, &FieldError{clip(name), `holds half of a surrogate pair (\ud800 to \udfff)`}
		}
		out[name] = value
	}
	if _, err := d.Token(); err != nil {
		return bad("the body is not JSON" + where(err, d))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("the body goes on after the JSON object")
	}
	return out, nil
}

func where(err error, d *json.Decoder) string {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Sprintf(" (at byte %d)", syntax.Offset)
	}
	return fmt.Sprintf(" (it ends at byte %d)", d.InputOffset())
}

// clip keeps what a client made up short in what it is told.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}

// loneSurrogate reports whether an escape in raw, which is JSON, stands for half
// a character. The decoder would put U+FFFD there without a word.
func loneSurrogate(raw []byte) bool {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if raw[i] != 'u' {
			continue
		}
		c := raw[i+1 : i+5]
		i += 4
		if c[0]|0x20 != 'd' || c[1] < '8' {
			continue
		}
		second := raw[i+1:]
		if c[1]|0x20 >= 'c' || len(second) < 6 || second[0] != '\\' || second[1] != 'u' || second[2]|0x20 != 'd' || second[3]|0x20 < 'c' {
			return true
		}
		i += 6
	}
	return false
}

// text takes a member that has to be a string.
func (o object) text(name string, into *string) error {
	raw, ok := o[name]
	if !ok {
		return nil
	}
	if raw[0] != '"' {
		return &FieldError{name, "must be a string"}
	}
	return json.Unmarshal(raw, into)
}

// only refuses members that are none of names, and says why where readOnly has
// them.
func (o object) only(names, readOnly []string) error {
	var errs []error
	for _, name := range sortedNames(o) {
		switch {
		case slices.Contains(names, name):
		case slices.Contains(readOnly, name):
			errs = append(errs, &FieldError{name, "is the service's to give"})
		default:
			errs = append(errs, &FieldError{clip(name), "is no field of this request"})
		}
	}
	return errors.Join(errs...)
}

func sortedNames(o object) []string {
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

var (
	ownFields   = []string{"name", "email", "region", "attributes", "password"}
	givenFields = []string{"id", "version", "created_at", "updated_at"}
)

// a draft is a user as a client writes it.
type draft struct {
	user     User
	password string
}

// parseUser reads a whole user. given allows the members that the service gives,
// as a client has them that sends back what it got.
func parseUser(o object, given bool) (draft, error) {
	allowed := ownFields
	if given {
		allowed = append(slices.Clone(ownFields), givenFields...)
	}
	var d draft
	errs := []error{
		o.only(allowed, givenFields),
		o.text("name", &d.user.Name),
		o.text("email", &d.user.Email),
		o.text("region", &d.user.Region),
		o.text("password", &d.password),
	}
	if given {
		errs = append(errs, o.text("id", &d.user.ID), o.version(&d.user.Version), o.text("created_at", new(string)), o.text("updated_at", new(string)))
	}
	d.user.Attributes = o["attributes"]
	if string(d.user.Attributes) == "null" { // which removes them, but only from a patch
		errs = append(errs, &FieldError{"attributes", "is not a JSON object"})
	}
	errs = append(errs, d.check(o))
	return d, errors.Join(errs...)
}

func (o object) version(into *int64) error {
	raw, ok := o["version"]
	if !ok {
		return nil
	}
	if json.Unmarshal(raw, into) != nil || *into < 1 {
		return &FieldError{"version", "must be a whole number from 1"}
	}
	return nil
}

// check holds the draft to the rules, where a field's own type is right.
func (d *draft) check(o object) error {
	var errs []error
	for _, f := range fieldErrors(tidy(&d.user)) {
		if raw, ok := o[f.Field]; !ok || f.Field == "attributes" || raw[0] == '"' {
			errs = append(errs, f)
		}
	}
	if raw, ok := o["password"]; ok && raw[0] == '"' {
		errs = append(errs, checkPassword(d.password))
	}
	return errors.Join(errs...)
}
