package users

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Sessions keeps who is logged in, for every process of the service. Its errors
// are ErrNoSession, and *Unavailable where it cannot know or cannot do what it is
// asked: nobody is then logged in, nor told that he is logged out.
type Sessions interface {
	// Start begins a session of a user.
	Start(ctx context.Context, userID string) (Session, error)
	// Find returns the session of a secret and moves its end away.
	Find(ctx context.Context, secret string) (Session, error)
	// End ends the session of a secret for good.
	End(ctx context.Context, secret string) error
	// EndAll ends all sessions of a user that have begun until now.
	EndAll(ctx context.Context, userID string) error
}

// A Session is one login.
type Session struct {
	Secret    string // what the client shows; at least 128 bits of chance
	UserID    string
	CreatedAt time.Time
	ExpiresAt time.Time // where nothing is heard of it until then
}

// ErrNoSession says that a secret is of no session, or of one that has ended.
var ErrNoSession = errors.New("there is no session: log in")

const sessionCookie = "sluice_session"

func (h *Handler) session(req *Request, resp *Response) error {
	if h.sessions == nil {
		return &problem{status: http.StatusNotFound, detail: "there is nothing at this path"}
	}
	resp.Add("Cache-Control", "no-store")
	switch req.Method {
	case "POST":
		return h.login(req, resp)
	case "GET", "HEAD":
		return h.whoIs(req, resp)
	case "DELETE":
		return h.logout(req, resp)
	}
	return notAllowed("GET, HEAD, POST, DELETE")
}

var errLogin = &problem{status: http.StatusUnauthorized, detail: "the address or the password is wrong"}

// login starts a session of the user who has that address and password.
func (h *Handler) login(req *Request, resp *Response) error {
	// A form of another site can send this type only after asking (CORS). Who
	// says nothing of a site is no browser: curl -d may say that it sends a form.
	kinds := []string{jsonType}
	if !fromBrowser(req) {
		kinds = append(kinds, formType)
	}
	body, err := readBody(req, kinds...)
	if err != nil {
		return err
	}
	o, err := parseObject(body)
	if err != nil {
		return err
	}
	var email, password string
	bearer := false
	err = errors.Join(o.only([]string{"email", "password", "bearer"}, nil),
		o.text("email", &email), o.text("password", &password), o.flag("bearer", &bearer))
	if err != nil {
		return err
	}
	normal, err := NormalEmail(email)
	if err == nil && (password == "" || len(password) > maxPassword) {
		err = &FieldError{"password", "is empty or too long"}
	}
	if err != nil {
		return err
	}
	u, _, err := h.store.ByEmail(req.Context(), normal, Newest)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if good, err := h.matches(req.Context(), password, u.PasswordHash); err != nil {
		return err
	} else if !good {
		return errLogin
	}
	s, err := h.sessions.Start(req.Context(), u.ID)
	if err != nil {
		return err
	}
	// Whoever has changed the password meanwhile may have ended the sessions before
	// this one began.
	now, _, err := h.store.ByEmail(req.Context(), normal, Newest)
	if err != nil || now.ID != u.ID || now.PasswordHash != u.PasswordHash {
		ended := h.sessions.End(req.Context(), s.Secret)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return errors.Join(err, ended)
		}
		return errLogin
	}
	h.answerSession(req, resp, http.StatusCreated, s, &u, bearer)
	return nil
}

func (o object) flag(name string, into *bool) error {
	raw, ok := o[name]
	if ok && (string(raw) == "null" || json.Unmarshal(raw, into) != nil) {
		return &FieldError{name, "must be true or false"}
	}
	return nil
}

// shown is the secret that the client shows, and whether as a bearer.
func shown(req *Request) (secret string, bearer bool) {
	if field, ok := req.Lookup("Authorization"); ok {
		scheme, rest, _ := strings.Cut(field, " ")
		if strings.EqualFold(scheme, "Bearer") {
			return strings.TrimSpace(rest), true
		}
	}
	header, _ := req.Lookup("Cookie")
	return cookieOf(header, sessionCookie), false
}

// whoIs answers with the session and its user.
func (h *Handler) whoIs(req *Request, resp *Response) error {
	secret, bearer := shown(req)
	if secret == "" {
		return ErrNoSession
	}
	s, err := h.sessions.Find(req.Context(), secret)
	if err != nil {
		return err
	}
	u, _, err := readAfter(h, req, func(after Token) (User, Source, error) {
		return h.store.Get(req.Context(), s.UserID, after)
	})
	if errors.Is(err, ErrNotFound) { // who was deleted is not logged in
		return ErrNoSession
	}
	if err != nil {
		return err
	}
	h.answerSession(req, resp, http.StatusOK, s, &u, bearer)
	return nil
}

// answerSession shows the secret to a client that asked for it, and keeps it from
// the scripts of all others.
func (h *Handler) answerSession(req *Request, resp *Response, status int, s Session, u *User, bearer bool) {
	resp.Status = status
	resp.Add("Content-Type", jsonType)
	if !bearer {
		age := strconv.Itoa(int(math.Ceil(time.Until(s.ExpiresAt).Seconds())))
		resp.Add("Set-Cookie", setCookie(req, sessionCookie, s.Secret, "/", age))
	}
	b := append(resp.Body, `{"user":`...)
	b = u.AppendJSON(b)
	b = append(b, `,"created_at":"`...)
	b = appendTime(b, s.CreatedAt)
	b = append(b, `","expires_at":"`...)
	b = append(appendTime(b, s.ExpiresAt), '"')
	if bearer && status == http.StatusCreated {
		b = append(b, `,"token":`...)
		b = appendText(b, s.Secret)
	}
	resp.Body = append(b, "}\n"...)
}

// logout ends the session that the client shows.
func (h *Handler) logout(req *Request, resp *Response) error {
	secret, bearer := shown(req)
	if secret == "" {
		return ErrNoSession
	}
	if err := h.sessions.End(req.Context(), secret); err != nil {
		return err
	}
	resp.Status = http.StatusNoContent
	if !bearer {
		resp.Add("Set-Cookie", setCookie(req, sessionCookie, "", "/", "0"))
	}
	return nil
}

// fromBrowser reports whether a request bears the marks that browsers give to
// those that pages and forms send, of whatever site.
func fromBrowser(req *Request) bool {
	for _, name := range []string{"Origin", "Sec-Fetch-Site", "Referer"} {
		if _, ok := req.Lookup(name); ok {
			return true
		}
	}
	return false
}
