package users

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A problem is an error that knows how the client is answered.
type problem struct {
	status int
	detail string
	allow  string        // the methods, for a 405
	retry  time.Duration // Retry-After; 0: none
	fields []*FieldError
}

func (p *problem) Error() string { return p.detail }

func notAllowed(methods string) error {
	return &problem{status: http.StatusMethodNotAllowed, detail: "the method is not allowed here", allow: methods}
}

// problem answers with what err means to the client, and logs what only
// operators should know.
func (h *Handler) problem(req *Request, resp *Response, err error) {
	p := problemOf(err)
	if p.status >= 500 {
		h.log.Warn("request failed", "method", req.Method, "path", req.Path, "status", p.status, "error", err)
	}
	resp.Reset()
	resp.Status = p.status
	resp.Add("Content-Type", "application/problem+json")
	resp.Add("Cache-Control", "no-store")
	if p.allow != "" {
		resp.Add("Allow", p.allow)
	}
	if p.retry > 0 {
		resp.Add("Retry-After", strconv.Itoa(int((p.retry+time.Second-1)/time.Second)))
	}
	if p.status == http.StatusUnauthorized {
		resp.Add("WWW-Authenticate", `Cookie realm="sluice"`)
	}
	id := req.ID
	if id == "" {
		id, _ = req.Lookup("X-Request-Id")
	}
	if len(id) > 200 {
		id = ""
	}
	resp.Body = appendProblem(resp.Body, p.status, p.detail, id, p.fields)
}

// problemOf is the one place where errors become statuses.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	var conflict *Conflict
	if errors.As(err, &conflict) {
		return &problem{status: http.StatusPreconditionFailed, detail: conflict.Error()}
	}
	var down *Unavailable
	if errors.As(err, &down) {
		return unavailable(down)
	}
	if fields := fieldErrors(err); len(fields) > 0 {
		return fieldProblem(fields)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return &problem{status: http.StatusNotFound, detail: ErrNotFound.Error()}
	case errors.Is(err, ErrEmailTaken):
		return &problem{status: http.StatusConflict, detail: ErrEmailTaken.Error(),
			fields: []*FieldError{{"email", "belongs to another user"}}}
	case errors.Is(err, ErrKeyReused):
		return &problem{status: http.StatusUnprocessableEntity, detail: ErrKeyReused.Error(),
			fields: []*FieldError{{"Idempotency-Key", "was used for another request"}}}
	case errors.Is(err, ErrCursor):
		return fieldProblem([]*FieldError{{"cursor", "is none of this list"}})
	case errors.Is(err, ErrToken):
		return fieldProblem([]*FieldError{{tokenField, "is none of this service"}})
	case errors.Is(err, ErrNoSession):
		return &problem{status: http.StatusUnauthorized, detail: ErrNoSession.Error()}
	}
	return &problem{status: http.StatusInternalServerError, detail: "the user service failed"}
}

func unavailable(u *Unavailable) *problem {
	p := &problem{status: http.StatusServiceUnavailable, detail: u.What, retry: u.RetryAfter}
	if p.retry <= 0 {
		p.retry = time.Second
	}
	if u.Unknown {
		p.detail += "; whether it was written is not known: send it again with the same Idempotency-Key"
	}
	return p
}

// fieldErrors takes apart joined errors.
func fieldErrors(err error) []*FieldError {
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*FieldError
		for _, one := range many.Unwrap() {
			out = append(out, fieldErrors(one)...)
		}
		return out
	}
	var f *FieldError
	if errors.As(err, &f) {
		return []*FieldError{f}
	}
	return nil
}

func fieldProblem(fields []*FieldError) *problem {
	details := make([]string, len(fields))
	for i, f := range fields {
		details[i] = f.Error()
	}
	return &problem{status: http.StatusBadRequest, detail: strings.Join(details, "; "), fields: fields}
}
