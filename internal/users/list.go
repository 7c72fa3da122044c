package users

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	defaultLimit = 50
	maxLimit     = 200
	maxPrefix    = 100 // characters of q
)

// list answers with a page of users.
func (h *Handler) list(req *Request, resp *Response) error {
	q, err := h.parseQuery(req.Query)
	if err != nil {
		return err
	}
	page, source, err := readAfter(h, req, func(after Token) (Page, Source, error) {
		page, err := h.store.List(req.Context(), q, after)
		return page, page.Source, err
	})
	if err != nil {
		return err
	}
	next := ""
	if page.Next != "" {
		next = h.sign.seal("cursor", q.bound(), page.Next)
	}
	resp.Status = 200
	resp.Add("Content-Type", jsonType)
	resp.Add("Cache-Control", "no-cache")
	staleField(resp, source)
	resp.Body = appendPage(resp.Body, &page, next, q.Partial)
	return nil
}

// bound is what a cursor belongs to: the list that it is a place in.
func (q *Query) bound() string { return q.Region + "\x00" + q.Email + "\x00" + q.Prefix }

// parseQuery reads the parameters of a list, each once and none that is unknown.
func (h *Handler) parseQuery(raw string) (Query, error) {
	q := Query{Limit: defaultLimit}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, &FieldError{"", "the query string is malformed"}
	}
	var errs []error
	cursor := ""
	for name, list := range values {
		value := list[0]
		switch {
		case len(list) > 1:
			err = &FieldError{clip(name), "comes twice"}
		case !utf8.ValidString(value):
			err = &FieldError{clip(name), "is not UTF-8"}
		default:
			err = q.set(name, value, &cursor)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return q, err
	}
	if cursor != "" {
		text, ok := h.sign.open("cursor", q.bound(), cursor)
		if !ok || text == "" {
			return q, ErrCursor
		}
		q.Cursor = text
	}
	return q, nil
}

func (q *Query) set(name, value string, cursor *string) (err error) {
	switch name {
	case "limit":
		q.Limit, err = strconv.Atoi(value)
		if err != nil || q.Limit < 1 || q.Limit > maxLimit || value[0] == '+' {
			return &FieldError{name, fmt.Sprintf("is not a number from 1 to %d", maxLimit)}
		}
	case "cursor":
		*cursor = value
	case "email":
		q.Email, err = NormalEmail(value)
		return err
	case "region":
		if value == "" {
			return &FieldError{name, "must not be empty"}
		}
		q.Region = value
		return checkRegion(name, value)
	case "q":
		q.Prefix = Fold(value)
		if n := utf8.RuneCountInString(q.Prefix); n < 1 || n > maxPrefix || strings.ContainsRune(value, 0) {
			return &FieldError{name, fmt.Sprintf("is not 1 to %d characters", maxPrefix)}
		}
	case "partial":
		if value != "allow" {
			return &FieldError{name, "can be allow, and nothing else"}
		}
		q.Partial = true
	default:
		return &FieldError{clip(name), "is no parameter here"}
	}
	return nil
}

// firstName is the first parameter of a query string, to complain about.
func firstName(query string) string {
	name, _, _ := strings.Cut(query, "&")
	name, _, _ = strings.Cut(name, "=")
	if text, err := url.QueryUnescape(name); err == nil {
		name = text
	}
	return clip(strings.ToValidUTF8(name, "\ufffd"))
}
