package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// CreateAll stores new users, many in a transaction, and leaves out those whose
// address is taken. It does what Create does, in the same order: where it fails,
// some are there, and to do it again does no harm.
func (s *Store) CreateAll(ctx context.Context, all []users.User) error {
	if s.telling { // which is for single writes
		return s.createEach(ctx, all)
	}
	var local, across crowd
	at := now()
	for _, u := range all {
		norm, err := users.NormalEmail(u.Email)
		if err != nil {
			return err
		}
		m := member{user: u, norm: norm, id: shard.NewID(s.cluster.Assigner().Bucket(norm, u.Region), at)}
		if shard.KeyBucket(norm) == m.id.Bucket() {
			local = append(local, &m)
		} else {
			across = append(across, &m)
		}
	}
	err := s.many(ctx, "create", local.homes(), func(batch *pgx.Batch, places []int) {
		batch.Queue(localManySQL, append(local.columns(places), at)...)
	})
	if err == nil {
		err = s.createAcross(ctx, across, at)
	}
	return fail(err)
}

func (s *Store) createEach(ctx context.Context, all []users.User) error {
	for _, u := range all {
		if _, _, _, err := s.Create(ctx, u, users.Once{}, ""); err != nil && !errors.Is(err, users.ErrEmailTaken) {
			return err
		}
	}
	return nil
}

// A member is one of the users of a CreateAll.
type member struct {
	user users.User
	norm string
	id   shard.ID
	ours bool // the claim of the address
	done bool // the row
}

type crowd []*member

const (
	memberColumns = "unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[]) " +
		"AS t(bucket, id, email, norm, name, name_key, region, attributes, hash)"
	insertMembers = "INSERT INTO users (bucket, id, email, email_norm, email_op, name, name_key, region, attributes, password_hash, version, last_op, created_at, updated_at) " +
		"SELECT bucket, id, email, norm, id, name, name_key, region, attributes::json, hash, 1, id, $10, $10 FROM d WHERE id IN "

	localManySQL = "WITH d AS (SELECT * FROM " + memberColumns + "), " +
		"claim AS (INSERT INTO email_claim (bucket, email_norm, user_id, op, state) SELECT bucket, norm, id, id, 'confirmed' FROM d ON CONFLICT DO NOTHING RETURNING user_id) " +
		insertMembers + "(SELECT user_id FROM claim)"

	remoteManySQL = "WITH d AS (SELECT * FROM " + memberColumns + "), " +
		"op AS (INSERT INTO write_op (bucket, op, done) SELECT bucket, id, true FROM d ON CONFLICT DO NOTHING RETURNING op) " +
		insertMembers + "(SELECT op FROM op)"
	doneManySQL = "SELECT w.op FROM unnest($1::smallint[], $2::uuid[]) AS t(bucket, op) JOIN write_op w USING (bucket, op) WHERE w.done"

	claimColumns  = "unnest($1::smallint[], $2::text[], $3::uuid[]) AS t(bucket, norm, id)"
	claimManySQL  = "INSERT INTO email_claim (bucket, email_norm, user_id, op, state, expires_at) SELECT bucket, norm, id, id, 'pending', now() + interval '" + pendingFor + "' FROM " + claimColumns + " ON CONFLICT DO NOTHING"
	oursManySQL   = "SELECT c.op FROM " + claimColumns + " JOIN email_claim c ON c.bucket = t.bucket AND c.email_norm = t.norm AND c.op = t.id"
	settleManySQL = "UPDATE email_claim c SET state = 'confirmed' FROM " + claimColumns + " WHERE c.bucket = t.bucket AND c.email_norm = t.norm AND c.op = t.id"
)

// createAcross creates users whose addresses are claimed in other buckets: the
// claims, the rows, and then what makes the claims good. Claims whose rows were
// not written, as somebody has given them up meanwhile, stay pending until
// somebody asks.
func (s *Store) createAcross(ctx context.Context, all crowd, at time.Time) error {
	err := s.many(ctx, "claim", all.claims(), func(batch *pgx.Batch, places []int) {
		batch.Queue(claimManySQL, all.claimed(places)...)
		batch.Queue(oursManySQL, all.claimed(places)...).Query(all.mark(places, func(m *member) { m.ours = true }))
	})
	if err != nil {
		return err
	}
	all = all.which(func(m *member) bool { return m.ours })
	err = s.many(ctx, "create", all.homes(), func(batch *pgx.Batch, places []int) {
		columns := all.columns(places)
		batch.Queue(remoteManySQL, append(columns, at)...)
		batch.Queue(doneManySQL, columns[:2]...).Query(all.mark(places, func(m *member) { m.done = true }))
	})
	if err != nil {
		return err
	}
	all = all.which(func(m *member) bool { return m.done })
	return s.many(ctx, "confirm", all.claims(), func(batch *pgx.Batch, places []int) {
		batch.Queue(settleManySQL, all.claimed(places)...)
	})
}

// many runs statements that may be run twice, until it is known that they were.
func (s *Store) many(ctx context.Context, op string, buckets []shard.Bucket, queue func(*pgx.Batch, []int)) error {
	if len(buckets) == 0 {
		return nil
	}
	deadline := time.Now().Add(2 * time.Second)
	for {
		err := s.cluster.WriteMany(ctx, shard.Bulk{Op: op, Buckets: buckets, Queue: queue})
		if !unknown(err) || time.Now().After(deadline) || ctx.Err() != nil {
			return err
		}
		timer := time.NewTimer(20 * time.Millisecond)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (c crowd) which(is func(*member) bool) (some crowd) {
	for _, m := range c {
		if is(m) {
			some = append(some, m)
		}
	}
	return some
}

func (c crowd) homes() []shard.Bucket {
	list := make([]shard.Bucket, len(c))
	for i, m := range c {
		list[i] = m.id.Bucket()
	}
	return list
}

func (c crowd) claims() []shard.Bucket {
	list := make([]shard.Bucket, len(c))
	for i, m := range c {
		list[i] = shard.KeyBucket(m.norm)
	}
	return list
}

// mark reads the ids of those at the places to whom something has happened.
func (c crowd) mark(places []int, happened func(*member)) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		byID := make(map[shard.ID]*member, len(places))
		for _, i := range places {
			byID[c[i].id] = c[i]
		}
		var id pgtype.UUID
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			if m := byID[id.Bytes]; m != nil {
				happened(m)
			}
			return nil
		})
		return err
	}
}

// columns are the arguments of memberColumns.
func (c crowd) columns(places []int) []any {
	var buckets []int16
	var ids []pgtype.UUID
	var texts [7][]string
	for _, i := range places {
		m := c[i]
		buckets, ids = append(buckets, int16(m.id.Bucket())), append(ids, uuid(m.id))
		for n, text := range [...]string{m.user.Email, m.norm, m.user.Name, nameKey(m.user.Name), m.user.Region, string(m.user.Attributes), m.user.PasswordHash} {
			texts[n] = append(texts[n], text)
		}
	}
	args := make([]any, 0, 10)
	args = append(args, buckets, ids)
	for _, column := range texts {
		args = append(args, column)
	}
	return args
}

// claimed are the arguments of claimColumns.
func (c crowd) claimed(places []int) []any {
	var buckets []int16
	var norms []string
	var ids []pgtype.UUID
	for _, i := range places {
		buckets, norms, ids = append(buckets, int16(shard.KeyBucket(c[i].norm))), append(norms, c[i].norm), append(ids, uuid(c[i].id))
	}
	return []any{buckets, norms, ids}
}
