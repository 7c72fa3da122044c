package users

import (
	"errors"
	"strings"
)

// tokenField is the header in which a write gives the client its token, and in
// which the client gives it back; tokenCookie does it for browsers.
const (
	tokenField  = "Sluice-Consistency"
	tokenCookie = "sluice_consistency"
	tokenAge    = "86400" // seconds; every replica has caught up by then, or is ejected
)

// token is what the client has seen, and whether that came in a cookie.
func (h *Handler) token(req *Request) (after Token, cookie bool, err error) {
	if sealed, ok := req.Lookup(tokenField); ok {
		text, good := h.sign.open("token", "", sealed)
		if !good {
			return "", false, &FieldError{tokenField, "is none of this service"}
		}
		return Token(text), false, nil
	}
	header, ok := req.Lookup("Cookie")
	if !ok {
		return "", false, nil
	}
	// A cookie that says nothing to us (the secret has changed, say) is one
	// that its owner cannot put right: it is no cookie.
	text, good := h.sign.open("token", "", cookieOf(header, tokenCookie))
	if !good {
		return "", false, nil
	}
	return Token(text), true, nil
}

// cookieOf is the value of a cookie; empty: there is none.
func cookieOf(header, name string) string {
	for header != "" {
		var pair string
		pair, header, _ = strings.Cut(header, ";")
		key, value, _ := strings.Cut(strings.TrimLeft(pair, " "), "=")
		if key == name {
			return value
		}
	}
	return ""
}

// readAfter reads with the client's token.
func readAfter[T any](h *Handler, req *Request, read func(after Token) (T, Source, error)) (T, Source, error) {
	after, cookie, err := h.token(req)
	if err != nil {
		var none T
		return none, Source{}, err
	}
	v, source, err := read(after)
	if cookie && errors.Is(err, ErrToken) {
		v, source, err = read(Newest)
	}
	return v, source, err
}

// writeAfter writes with the client's token and gives it the next.
func (h *Handler) writeAfter(req *Request, resp *Response, write func(after Token) (Token, error)) error {
	after, cookie, err := h.token(req)
	if err != nil {
		return err
	}
	seen, err := write(after)
	if cookie && errors.Is(err, ErrToken) {
		seen, err = write("")
	}
	if err != nil {
		return err
	}
	sealed := h.sign.seal("token", "", string(seen))
	resp.Add(tokenField, sealed)
	resp.Add("Set-Cookie", setCookie(req, tokenCookie, sealed, "/api/", tokenAge))
	return nil
}

func setCookie(req *Request, name, value, path, maxAge string) string {
	c := name + "=" + value + "; Path=" + path + "; Max-Age=" + maxAge + "; HttpOnly; SameSite=Lax"
	if req.Secure {
		c += "; Secure"
	}
	return c
}
