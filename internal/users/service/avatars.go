package service

import (
	"errors"

	"github.com/sluice-edge/sluice/internal/jobs"
	"github.com/sluice-edge/sluice/internal/users"
)

// avatars are what the API takes; nil where no folder is for them.
func (o *jobsOf) avatars() *users.Avatars {
	if o == nil || o.spec.Avatars == "" {
		return nil
	}
	return &users.Avatars{MaxBytes: jobs.MaxImageBytes, Check: func(image []byte) error {
		err := jobs.CheckImage(image)
		if errors.Is(err, jobs.ErrImageType) {
			return users.ErrImageType
		}
		return err
	}}
}

// ofAvatar is the job of what a write means to the images of a user, if anything.
func (o *jobsOf) ofAvatar(event string, u users.User) []jobs.Args {
	switch {
	case o.spec.Avatars == "":
	case event == "user.deleted":
		return []jobs.Args{jobs.Avatar{User: u.ID, Version: u.Version, Gone: true}}
	case u.Avatar != nil:
		return []jobs.Args{jobs.Avatar{User: u.ID, Version: u.Version, Image: u.Avatar.Image, Gone: len(u.Avatar.Image) == 0}}
	}
	return nil
}
