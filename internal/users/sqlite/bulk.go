package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// CreateAll stores new users in a transaction a file, and leaves out those whose
// address is taken.
func (s *Store) CreateAll(ctx context.Context, all []users.User) error {
	groups := map[*file][]creation{}
	now := time.Now().UTC().Truncate(time.Microsecond)
	for _, u := range all {
		norm, err := users.NormalEmail(u.Email)
		if err != nil {
			return err
		}
		bucket := s.cfg.Assign.Bucket(norm, u.Region)
		u.ID, u.Version, u.CreatedAt, u.UpdatedAt = shard.NewID(bucket, now).String(), 1, now, now
		c := creation{s: s, u: u, norm: norm, bucket: bucket, home: s.files[s.cfg.Assign.Home(bucket)], claim: s.claimOf(norm)}
		if c.home == c.claim {
			groups[c.home] = append(groups[c.home], c)
			continue
		}
		if err := c.run(ctx); err != nil && !errors.Is(err, users.ErrEmailTaken) {
			return failure(ctx, err)
		}
	}
	for f, group := range groups {
		err := f.transact(ctx, func(tx *sql.Tx) error {
			for i := range group {
				c := &group[i]
				err := reserve(tx, c.norm, c.u.ID, true)
				if errors.Is(err, users.ErrEmailTaken) {
					continue
				}
				if err == nil {
					err = c.insert(ctx, tx)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return failure(ctx, err)
		}
	}
	return nil
}
