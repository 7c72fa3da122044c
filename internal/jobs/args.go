package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxImageBytes is the largest image that an Avatar takes.
const MaxImageBytes = 1 << 20

// WelcomeEmail greets a new user.
type WelcomeEmail struct {
	User  string `json:"user"` // its id
	Email string `json:"email"`
	Name  string `json:"name"` // may be empty
}

// Avatar makes the small images of a user out of the one that it sent, or removes
// them. The image is kept among the arguments: it is there once the write is, and
// goes with the job.
type Avatar struct {
	User    string `json:"user"`
	Version int64  `json:"version"`         // of the user; an older one never replaces a newer
	Image   []byte `json:"image,omitempty"` // JPEG, PNG, GIF or WebP
	Gone    bool   `json:"gone,omitempty"`  // instead of an image
}

// Analytics adds one to a counter.
type Analytics struct {
	Region string `json:"region"` // may be empty
	Day    string `json:"day"`    // as 2026-11-24, UTC
	Event  string `json:"event"`  // as user.created
}

// CacheFix repairs the cache where it could not be told of a write.
type CacheFix struct {
	User    string `json:"user"`
	Version int64  `json:"version"` // nothing older may be served afterwards
	// Until is when whatever is older has expired by itself; zero: never.
	Until time.Time `json:"until,omitzero"`
}

func (WelcomeEmail) Kind() string { return "welcome_email" }
func (Avatar) Kind() string       { return "avatar" }
func (Analytics) Kind() string    { return "analytics" }
func (CacheFix) Kind() string     { return "cache_fix" }

func (WelcomeEmail) queue() string { return "mail" }
func (Avatar) queue() string       { return "images" }
func (Analytics) queue() string    { return "analytics" }
func (CacheFix) queue() string     { return "cache" }

func (a WelcomeEmail) Check() error {
	c := checker{kind: a.Kind()}
	c.id("user", a.User)
	c.text("name", a.Name, 1000)
	c.text("email", a.Email, 254)
	if addr, err := mail.ParseAddress(a.Email); err != nil || addr.Address != a.Email {
		c.fault("email", "is no e-mail address")
	}
	return c.err
}

func (a Avatar) Check() error {
	c := checker{kind: a.Kind()}
	c.id("user", a.User)
	if a.Version < 0 {
		c.fault("version", "is negative")
	}
	switch {
	case a.Gone && len(a.Image) > 0:
		c.fault("image", "comes with word that it is gone")
	case a.Gone || c.err != nil:
	default:
		if err := CheckImage(a.Image); err != nil {
			c.fault("image", err.Error())
		}
	}
	return c.err
}

var eventName = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,39}$`)

func (a Analytics) Check() error {
	c := checker{kind: a.Kind()}
	c.text("region", a.Region, 64)
	// PostgreSQL knows no year 0, and says so of the whole batch.
	if day, err := time.Parse(time.DateOnly, a.Day); err != nil || day.Format(time.DateOnly) != a.Day || day.Year() < 1 {
		c.fault("day", "is no date like 2026-11-24")
	}
	if !eventName.MatchString(a.Event) {
		c.fault("event", "is no name like user.created")
	}
	return c.err
}

func (a CacheFix) Check() error {
	c := checker{kind: a.Kind()}
	c.id("user", a.User)
	if a.Version < 0 {
		c.fault("version", "is negative")
	}
	return c.err
}

// A checker keeps the first fault that it finds.
type checker struct {
	kind string
	err  error
}

func (c *checker) fault(field, why string) {
	if c.err == nil {
		c.err = &ArgsError{Kind: c.kind, Field: field, Why: why}
	}
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// id holds a user's id to what is safe as a file's name.
func (c *checker) id(field, value string) {
	if !idForm.MatchString(value) {
		c.fault(field, "is no id: letters, digits, - and _, at most 64")
	}
}

// text refuses what PostgreSQL cannot store and headers cannot carry.
func (c *checker) text(field, value string, most int) {
	switch {
	case len(value) > most:
		c.fault(field, fmt.Sprintf("has more than %d bytes", most))
	case !utf8.ValidString(value):
		c.fault(field, "is not UTF-8")
	case strings.IndexFunc(value, unicode.IsControl) >= 0:
		c.fault(field, "has control characters")
	}
}

// Parse reads the arguments of a kind, as `users jobs` has them on its command
// line: strictly, so that a misspelt field is an error.
func Parse(kind string, data []byte) (Args, error) {
	switch kind {
	case WelcomeEmail{}.Kind():
		return parse[WelcomeEmail](kind, data)
	case Avatar{}.Kind():
		return parse[Avatar](kind, data)
	case Analytics{}.Kind():
		return parse[Analytics](kind, data)
	case CacheFix{}.Kind():
		return parse[CacheFix](kind, data)
	}
	return nil, &UnknownError{What: "kind", Name: kind, Known: Kinds()}
}

func parse[T Args](kind string, data []byte) (Args, error) {
	var args T
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(&args)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is something after the arguments")
		}
	}
	if err != nil {
		return nil, &ArgsError{Kind: kind, Field: "arguments", Why: "are not as they should be: " + err.Error()}
	}
	return args, args.Check()
}
