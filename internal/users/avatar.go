package users

import (
	"errors"
	"net/http"
	"slices"
	"strings"
)

// An AvatarChange comes with a write of a user. The store hands it to what is done
// in the write's transaction, and neither keeps nor returns it.
type AvatarChange struct {
	Image []byte // as it was uploaded; empty: there is none any more
}

// Avatars is what is known of the images that are taken.
type Avatars struct {
	MaxBytes int
	// Check says what is wrong with an image: ErrImageType, or what the client is
	// told as it is.
	Check func(image []byte) error
}

// ErrImageType says that an image is of no format that is read.
var ErrImageType = errors.New("is no JPEG, PNG, GIF or WebP")

const avatarPath = "/avatar" // after the user's

var avatarTypes = []string{"image/jpeg", "image/png", "image/gif", "image/webp", "application/octet-stream", formType, ""}

// avatar takes an image or has it removed, as a change of the user like any other:
// with the version that it makes, so that of two images the later one stays. What
// clients see of it is made by others, afterwards.
func (h *Handler) avatar(req *Request, resp *Response, id string) error {
	switch {
	case req.Method != "PUT" && req.Method != "DELETE":
		return notAllowed("PUT, DELETE")
	case !canonicalID(id):
		return ErrNotFound
	case h.avatars == nil:
		return &problem{status: http.StatusNotFound, detail: "this service takes no avatars"}
	case req.Query != "":
		return &FieldError{firstName(req.Query), "is no parameter here"}
	}
	expect, err := preconditions(req)
	if err != nil {
		return err
	}
	change := &AvatarChange{}
	if req.Method == "PUT" {
		if change.Image, err = h.image(req); err != nil {
			return err
		}
	}
	id = strings.Clone(id)
	once := func() error { return h.changeAvatar(req, resp, id, expect, change) }
	if expect.any {
		return h.turns.change(req.Context(), id, once)
	}
	return once()
}

func (h *Handler) changeAvatar(req *Request, resp *Response, id string, expect expected, change *AvatarChange) error {
	u, _, err := h.store.Get(req.Context(), id, Newest)
	if err != nil {
		return err
	}
	if !expect.matches(u.Version) {
		return &Conflict{u.Version}
	}
	u.Avatar = change
	err = h.writeAfter(req, resp, func(after Token) (seen Token, err error) {
		u, seen, err = h.store.Replace(req.Context(), u, u.Version, after)
		return seen, err
	})
	if err != nil {
		return err
	}
	answerUser(resp, http.StatusAccepted, &u, etagOf(u.Version))
	return nil
}

// image reads an image, as far as it can be judged by its head.
func (h *Handler) image(req *Request) ([]byte, error) {
	kind, err := mediaType(req)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(avatarTypes, kind) {
		return nil, noImage("Content-Type", "is not image/jpeg, image/png, image/gif or image/webp")
	}
	image, err := readUpTo(req, h.avatars.MaxBytes)
	if err != nil {
		return nil, err
	}
	switch err := h.avatars.Check(image); {
	case errors.Is(err, ErrImageType):
		return nil, noImage("image", ErrImageType.Error())
	case err != nil:
		f := &FieldError{"image", err.Error()}
		return nil, &problem{status: http.StatusUnprocessableEntity, detail: f.Error(), fields: []*FieldError{f}}
	}
	return image, nil
}

func noImage(field, why string) error {
	f := &FieldError{field, why}
	return &problem{status: http.StatusUnsupportedMediaType, detail: f.Error(), fields: []*FieldError{f}}
}
