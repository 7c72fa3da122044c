package shard

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed schema/*.sql
var coreSchema embed.FS

// migrationLock is the key of the advisory lock under which schemas change.
const migrationLock = 4712

// A Schema is a directory of migrations named NNNN_what.sql, applied in the
// order of their numbers, each once a shard and in a transaction of its own.
// They expand and contract: whatever a running release uses is taken away by a
// later one alone.
type Schema struct {
	Name  string // under which the migrations are recorded
	Files fs.FS
	Dir   string
}

// Migrate brings every shard to the newest schema, tells a new shard its name,
// and gives the buckets that have no owner yet to those that the assigner says.
// Any number of processes may do so at once. Shards whose primary cannot be
// reached are left out, and the others are ready: the error is an *Unavailable
// then, and the rest is done by doing it again.
func (c *Cluster) Migrate(ctx context.Context) error {
	var left []error
	for i, s := range c.shards {
		err := c.onPrimary(ctx, s, func(conn *pgx.Conn) error { return c.migrate(ctx, s, conn) })
		if err == nil && i == 0 {
			err = c.onPrimary(ctx, s, func(conn *pgx.Conn) error { return c.foundMap(ctx, conn) })
		}
		if err == nil {
			err = c.foundOwners(ctx, s)
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("migrate shard %s: %w", s.name, err)
		if !away(err) || ctx.Err() != nil {
			return err
		}
		left = append(left, err)
	}
	err := c.Refresh(ctx)
	if len(left) > 0 {
		return &Unavailable{What: "some shards are not there yet", Err: errors.Join(left...)}
	}
	return err
}

func (c *Cluster) migrate(ctx context.Context, s *shardHosts, conn *pgx.Conn) error {
	if !c.cfg.Distributed {
		if _, err := conn.Exec(ctx, "SELECT pg_advisory_lock($1)", migrationLock); err != nil {
			return err
		}
		defer func() {
			_, _ = conn.Exec(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", migrationLock)
		}()
	}
	_, err := conn.Exec(ctx, `CREATE TABLE IF NOT EXISTS schema_migration (
		name text, version integer, applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (name, version))`)
	if err != nil {
		return err
	}
	for _, schema := range append([]Schema{{"shard", coreSchema, "schema"}}, c.cfg.Schemas...) {
		if err := schema.apply(ctx, conn); err != nil {
			return err
		}
	}
	return identify(ctx, s.name, conn)
}

func (s Schema) apply(ctx context.Context, conn *pgx.Conn) error {
	entries, err := fs.ReadDir(s.Files, s.Dir) // sorted by name
	if err != nil {
		return err
	}
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return fmt.Errorf("migration %s/%s has no number", s.Name, entry.Name())
		}
		sql, err := fs.ReadFile(s.Files, path.Join(s.Dir, entry.Name()))
		if err != nil {
			return err
		}
		err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, "INSERT INTO schema_migration (name, version) VALUES ($1, $2) ON CONFLICT DO NOTHING", s.Name, version)
			if err != nil || tag.RowsAffected() == 0 {
				return err
			}
			_, err = tx.Exec(ctx, string(sql))
			return err
		})
		if err != nil {
			return fmt.Errorf("migration %s/%s: %w", s.Name, entry.Name(), err)
		}
	}
	return nil
}

// identify writes the shard's name into it, and refuses a database that is
// another shard: addresses that were mixed up would lose rows.
func identify(ctx context.Context, name string, conn *pgx.Conn) error {
	var have string
	_, err := conn.Exec(ctx, "INSERT INTO shard_identity (name) VALUES ($1) ON CONFLICT DO NOTHING", name)
	if err == nil {
		err = conn.QueryRow(ctx, "SELECT name FROM shard_identity").Scan(&have)
	}
	if err == nil && have != name {
		err = fmt.Errorf("%w: it is the shard %q", errMisplaced, have)
	}
	return err
}

// foundMap writes the first map, once.
func (c *Cluster) foundMap(ctx context.Context, conn *pgx.Conn) error {
	names := make([]string, Buckets)
	for b := range names {
		names[b] = c.shards[c.cfg.Assigner.Home(Bucket(b))].name
	}
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var version int64
		if err := tx.QueryRow(ctx, "SELECT version FROM shard_map_version FOR UPDATE").Scan(&version); err != nil || version > 0 {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO shard_map (bucket, shard, epoch, version)
			SELECT n - 1, shard, 1, 1 FROM unnest($1::text[]) WITH ORDINALITY AS t(shard, n)`, names)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE shard_map_version SET version = 1")
		return err
	})
}

// foundOwners gives a shard the buckets that were never moved and that the map
// has there.
func (c *Cluster) foundOwners(ctx context.Context, s *shardHosts) error {
	var buckets []int16
	err := c.onPrimary(ctx, c.shards[0], func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, "SELECT coalesce(array_agg(bucket), '{}') FROM shard_map WHERE shard = $1 AND epoch = 1", s.name).Scan(&buckets)
	})
	if err != nil {
		return err
	}
	return c.onPrimary(ctx, s, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `INSERT INTO bucket_owner (bucket, epoch, state)
			SELECT b, 1, 'active' FROM unnest($1::smallint[]) b
			WHERE NOT EXISTS (SELECT FROM bucket_owner o WHERE o.bucket = b)
			ON CONFLICT DO NOTHING`, buckets)
		return err
	})
}

// Refresh reads the map if the router has an older one. Those who ask while
// somebody does so wait for the next turn, which does for all of them.
func (c *Cluster) Refresh(ctx context.Context) error {
	came := c.turns.Load()
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	if c.turns.Load() > came+1 { // one has begun since, and has ended
		return c.refreshed
	}
	c.turns.Add(1)
	c.refreshed = c.refresh(ctx)
	c.turns.Add(1)
	return c.refreshed
}

func (c *Cluster) refresh(ctx context.Context) error {
	return c.onAny(ctx, c.shards[0], func(conn *pgx.Conn) error {
		var version int64
		if err := conn.QueryRow(ctx, "SELECT version FROM shard_map_version").Scan(&version); err != nil {
			return err
		}
		if old := c.router.Map(); version == 0 {
			return errors.New("shard: there is no map yet")
		} else if old != nil && old.Version >= version {
			return nil
		}
		m, err := c.readMap(ctx, conn)
		if err == nil {
			c.router.Swap(m)
		}
		return err
	})
}

// readMap reads map and version in one snapshot.
func (c *Cluster) readMap(ctx context.Context, conn *pgx.Conn) (*Map, error) {
	rows, err := conn.Query(ctx, "SELECT v.version, m.bucket, m.shard, m.epoch FROM shard_map_version v, shard_map m")
	if err != nil {
		return nil, err
	}
	m, n := &Map{}, 0
	var bucket int16
	var name string
	var epoch int64
	_, err = pgx.ForEachRow(rows, []any{&m.Version, &bucket, &name, &epoch}, func() error {
		at := indexOf(c.names, name)
		if at < 0 {
			return fmt.Errorf("shard: bucket %d is on the shard %q, which is not configured", bucket, name)
		}
		m.Entries[bucket] = Entry{int32(at), epoch}
		n++
		return nil
	})
	if err == nil && n != Buckets {
		err = fmt.Errorf("shard: the map has %d buckets", n)
	}
	return m, err
}
