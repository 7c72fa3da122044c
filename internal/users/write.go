package users

import (
	"crypto/sha256"
	"net/http"
	"strings"
)

const (
	jsonType       = "application/json"
	mergeType      = "application/merge-patch+json"
	maxKey         = 128 // bytes of an Idempotency-Key
	idempotencyKey = "Idempotency-Key"
)

// create stores a new user.
func (h *Handler) create(req *Request, resp *Response) error {
	if req.Query != "" {
		return &FieldError{firstName(req.Query), "is no parameter here"}
	}
	body, err := readBody(req, jsonType, formType)
	if err != nil {
		return err
	}
	once, err := h.once(req, body)
	if err != nil {
		return err
	}
	o, err := parseObject(body)
	if err != nil {
		return err
	}
	d, err := parseUser(o, false)
	if err != nil {
		return err
	}
	if err := h.hashInto(req, &d); err != nil {
		return err
	}
	var u User
	var replayed bool
	err = h.writeAfter(req, resp, func(after Token) (seen Token, err error) {
		u, replayed, seen, err = h.store.Create(req.Context(), d.user, once, after)
		return seen, err
	})
	if err != nil {
		return err
	}
	resp.Add("Location", usersPath+"/"+u.ID)
	if replayed {
		resp.Add("Idempotency-Replayed", "true")
	}
	answerUser(resp, http.StatusCreated, &u, etagOf(u.Version))
	return nil
}

// once reads the Idempotency-Key. What it is remembered with is a MAC: passwords
// are in the body.
func (h *Handler) once(req *Request, body []byte) (Once, error) {
	key, ok := req.Lookup(idempotencyKey)
	if !ok {
		return Once{}, nil
	}
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, func(r rune) bool { return r < 0x21 || r > 0x7e }) {
		return Once{}, &FieldError{idempotencyKey, "is not 1 to 128 visible ASCII characters"}
	}
	return Once{Key: strings.Clone(key), Hash: [sha256.Size]byte(h.sign.mac("once", "", string(body)))}, nil
}

// replace stores a user in the place of the one with that ID.
func (h *Handler) replace(req *Request, resp *Response, id string) error {
	o, expect, err := h.changed(req, jsonType, formType)
	if err != nil {
		return err
	}
	d, err := parseUser(o, true)
	if err != nil {
		return err
	}
	if d.user.ID != "" && d.user.ID != id {
		return &FieldError{"id", "is another than the path's"}
	}
	if v := d.user.Version; v != 0 && expect.any {
		expect = expected{versions: []int64{v}}
	}
	if err := h.hashInto(req, &d); err != nil {
		return err
	}
	d.user.ID = strings.Clone(id) // of the request, which ends before the cache does
	version, err := expect.only(func() (int64, error) { return h.newestVersion(req, id) })
	if err != nil {
		return err
	}
	return h.store1(req, resp, d, version)
}

// patch changes some of a user.
func (h *Handler) patch(req *Request, resp *Response, id string) error {
	o, expect, err := h.changed(req, mergeType, jsonType, formType)
	if err != nil {
		return err
	}
	change := func() error { return h.patchOnce(req, resp, id, o, expect) }
	if expect.any {
		return h.turns.change(req.Context(), id, change)
	}
	return change()
}

func (h *Handler) patchOnce(req *Request, resp *Response, id string, o object, expect expected) error {
	u, _, err := h.store.Get(req.Context(), id, Newest)
	if err != nil {
		return err
	}
	if !expect.matches(u.Version) {
		return &Conflict{u.Version}
	}
	d, err := mergePatch(u, o)
	if err != nil {
		return err
	}
	if !d.changes(&u, o) {
		return h.unchanged(req, resp, &u)
	}
	if err := h.hashInto(req, &d); err != nil {
		return err
	}
	return h.store1(req, resp, d, u.Version)
}

// unchanged answers a patch that asks for what u is already: nothing is written,
// and the client sees nothing older from now on, as after a write.
func (h *Handler) unchanged(req *Request, resp *Response, u *User) error {
	err := h.writeAfter(req, resp, func(after Token) (Token, error) {
		return h.store.Saw(req.Context(), u.ID, u.Version, after)
	})
	if err != nil {
		return err
	}
	answerUser(resp, http.StatusOK, u, etagOf(u.Version))
	return nil
}

// changed reads what PUT and PATCH have in common.
func (h *Handler) changed(req *Request, kinds ...string) (object, expected, error) {
	if req.Query != "" {
		return nil, expected{}, &FieldError{firstName(req.Query), "is no parameter here"}
	}
	expect, err := preconditions(req)
	if err != nil {
		return nil, expect, err
	}
	body, err := readBody(req, kinds...)
	if err != nil {
		return nil, expect, err
	}
	o, err := parseObject(body)
	return o, expect, err
}

// store1 writes d, which has an ID, and answers with what became of it.
func (h *Handler) store1(req *Request, resp *Response, d draft, expect int64) error {
	// Whoever changes a password shuts out those who knew the old one. Before the
	// write: where it fails, the worst is that somebody logs in again.
	if d.password != "" && h.sessions != nil {
		if err := h.sessions.EndAll(req.Context(), d.user.ID); err != nil {
			return err
		}
	}
	var u User
	err := h.writeAfter(req, resp, func(after Token) (seen Token, err error) {
		u, seen, err = h.store.Replace(req.Context(), d.user, expect, after)
		return seen, err
	})
	if err != nil {
		return err
	}
	// And once more: who logged in with the old one between the two is out as well.
	if d.password != "" && h.sessions != nil {
		if err := h.sessions.EndAll(req.Context(), d.user.ID); err != nil {
			return err
		}
	}
	answerUser(resp, http.StatusOK, &u, etagOf(u.Version))
	return nil
}

// remove deletes a user.
func (h *Handler) remove(req *Request, resp *Response, id string) error {
	if req.Query != "" {
		return &FieldError{firstName(req.Query), "is no parameter here"}
	}
	expect, err := preconditions(req)
	if err != nil {
		return err
	}
	version, err := expect.only(func() (int64, error) { return h.newestVersion(req, id) })
	if err != nil {
		return err
	}
	err = h.writeAfter(req, resp, func(after Token) (seen Token, err error) {
		_, seen, err = h.store.Delete(req.Context(), id, version, after)
		return seen, err
	})
	if err != nil {
		return err
	}
	// Who has gone is found nowhere but in what is cached, until that expires.
	if h.sessions != nil {
		if err := h.sessions.EndAll(req.Context(), id); err != nil {
			h.log.Warn("the sessions of a user who was removed could not be ended", "user", id, "error", err)
		}
	}
	resp.Status = http.StatusNoContent
	return nil
}

func (h *Handler) newestVersion(req *Request, id string) (int64, error) {
	u, _, err := h.store.Get(req.Context(), id, Newest)
	return u.Version, err
}
