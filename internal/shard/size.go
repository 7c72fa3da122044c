package shard

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Size is what a shard holds.
type Size struct {
	Name     string
	Buckets  int   // by the map
	Rows     int64 // of the first table, in buckets that the shard has
	Estimate bool  // Rows is the planner's, as counting took too long: with what has moved away and is not purged
	Bytes    int64 // of the database
	Err      error // where the shard cannot be asked
}

// Sizes asks every shard what it holds, all at once. Rows are counted, for so
// long at most.
func (c *Cluster) Sizes(ctx context.Context, patience time.Duration) []Size {
	sizes := make([]Size, len(c.shards))
	for _, e := range c.router.Map().Entries {
		sizes[e.Shard].Buckets++
	}
	var wg sync.WaitGroup
	for i, s := range c.shards {
		sizes[i].Name = s.name
		wg.Go(func() {
			sizes[i].Err = c.onAny(ctx, s, func(conn *pgx.Conn) error { return sizes[i].ask(ctx, conn, c.cfg.Tables[0].Name, patience) })
		})
	}
	wg.Wait()
	return sizes
}

func (z *Size) ask(ctx context.Context, conn *pgx.Conn, table string, patience time.Duration) error {
	err := conn.QueryRow(ctx, "SELECT pg_database_size(current_database()), (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = $1::text::regclass)",
		table).Scan(&z.Bytes, &z.Rows)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", max(1, patience.Milliseconds()))); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "SELECT count(*) FROM "+table+" WHERE get_bit((SELECT bits FROM bucket_bitmap), bucket) <> 0").Scan(&z.Rows)
	})
	switch sqlState(err) {
	case "57014", "40001": // too slow, or in a replica's way
		z.Estimate, err = true, nil
	}
	return err
}
