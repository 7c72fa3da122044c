package users

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// Bounds of a user's fields.
const (
	MaxName       = 200      // characters
	MaxEmail      = 254      // bytes (RFC 5321, section 4.5.3.1.3)
	maxLocal      = 64       // bytes before the @
	MaxRegion     = 32       // bytes
	MaxAttributes = 16 << 10 // bytes of JSON without white space
	maxDepth      = 16       // levels of attributes
	minPassword   = 8        // characters
	maxPassword   = 256      // bytes
)

// A FieldError says which field of a request is wrong, and how.
type FieldError struct {
	Field string // "email", "attributes.color", "limit"; empty: the body as a whole
	Why   string // "must not be empty"
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Why
	}
	return e.Field + " " + e.Why
}

var regionForm = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$`)

// tidy holds u to the rules and brings what it holds into its one form. The
// error joins a *FieldError for each field that is wrong.
func tidy(u *User) error {
	u.Name = norm.NFC.String(strings.TrimSpace(u.Name))
	errs := []error{checkName(u.Name)}
	u.Email = strings.TrimSpace(u.Email)
	if _, err := NormalEmail(u.Email); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, checkRegion("region", u.Region))
	compact, err := compactObject(u.Attributes)
	u.Attributes = compact
	return errors.Join(append(errs, err)...)
}

func checkName(name string) error {
	switch {
	case name == "":
		return &FieldError{"name", "must not be empty"}
	case !utf8.ValidString(name):
		return &FieldError{"name", "is not UTF-8"}
	case utf8.RuneCountInString(name) > MaxName:
		return &FieldError{"name", fmt.Sprintf("is longer than %d characters", MaxName)}
	case strings.ContainsFunc(name, unicode.IsControl):
		return &FieldError{"name", "has control characters"}
	}
	return nil
}

func checkRegion(field, region string) error {
	if region == "" || len(region) <= MaxRegion && regionForm.MatchString(region) {
		return nil
	}
	return &FieldError{field, fmt.Sprintf("is not up to %d lower-case letters, digits and inner hyphens, such as eu-west", MaxRegion)}
}

// NormalEmail is the form in which addresses are compared: NFC, lower case, the
// domain in ASCII. The error is a *FieldError for "email".
func NormalEmail(email string) (string, error) {
	bad := func(why string) (string, error) { return "", &FieldError{"email", why} }
	if email == "" {
		return bad("must not be empty")
	}
	if !utf8.ValidString(email) {
		return bad("is not UTF-8")
	}
	if len(email) > MaxEmail {
		return bad(fmt.Sprintf("is longer than %d bytes", MaxEmail))
	}
	at := strings.LastIndexByte(email, '@')
	if at < 0 {
		return bad("has no @")
	}
	local := norm.NFC.String(strings.ToLower(norm.NFC.String(email[:at])))
	if !localPart(local) {
		return bad("has no valid name before the @")
	}
	domain, err := idna.Lookup.ToASCII(email[at+1:])
	if err != nil || !domainName(domain) {
		return bad("has no valid domain after the @")
	}
	normal := local + "@" + strings.ToLower(domain)
	if len(normal) > MaxEmail {
		return bad(fmt.Sprintf("is longer than %d bytes", MaxEmail))
	}
	return normal, nil
}

// localPart reports whether s is a dot-atom (RFC 5322, section 3.2.3), letters of
// other scripts among its atoms (RFC 6531).
func localPart(s string) bool {
	if s == "" || len(s) > maxLocal || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for _, r := range s {
		if r < utf8.RuneSelf && !asciiAtom(r) || r >= utf8.RuneSelf && !unicode.In(r, unicode.L, unicode.M, unicode.N) {
			return false
		}
	}
	return true
}

func asciiAtom(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune(".!#$%&'*+-/=?^_`{|}~", r)
}

func domainName(s string) bool {
	labels := strings.Split(s, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return len(s) <= 253
}

// compactObject is a JSON object without white space; none is {}.
func compactObject(raw json.RawMessage) (json.RawMessage, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || string(raw) == "null" {
		return json.RawMessage("{}"), nil
	}
	if raw[0] != '{' {
		return nil, &FieldError{"attributes", "is not a JSON object"}
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, &FieldError{"attributes", "is not JSON"}
	}
	if out.Len() > MaxAttributes {
		return nil, &FieldError{"attributes", fmt.Sprintf("is longer than %d bytes", MaxAttributes)}
	}
	if err := checkMembers(out.Bytes()); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// checkMembers refuses members that come twice, which readers would disagree
// about, NUL, which PostgreSQL cannot store in jsonb, and too many levels.
func checkMembers(object []byte) error {
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	type level struct {
		keys map[string]bool // nil: an array
		name bool            // a member's name comes next
	}
	var stack []level
	for {
		tok, err := d.Token()
		if err != nil {
			return nil // its end: it has been compacted
		}
		top := len(stack) - 1
		if delim, ok := tok.(json.Delim); ok {
			switch delim {
			case '{', '[':
				if len(stack) == maxDepth {
					return &FieldError{"attributes", fmt.Sprintf("has more than %d levels", maxDepth)}
				}
				next := level{}
				if delim == '{' {
					next = level{keys: map[string]bool{}, name: true}
				}
				if top >= 0 {
					stack[top].name = stack[top].keys != nil
				}
				stack = append(stack, next)
			default:
				stack = stack[:top]
			}
			continue
		}
		text, isText := tok.(string)
		if isText && strings.ContainsRune(text, 0) {
			return &FieldError{"attributes", "holds a NUL character"}
		}
		if stack[top].name {
			if stack[top].keys[text] {
				return &FieldError{"attributes", fmt.Sprintf("names %q twice", text)}
			}
			stack[top].keys[text] = true
		}
		stack[top].name = stack[top].keys != nil && !stack[top].name
	}
}

// Fold is text as q compares it: NFC, lower case.
func Fold(text string) string { return norm.NFC.String(strings.ToLower(norm.NFC.String(text))) }
