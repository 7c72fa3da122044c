// Package postgres keeps users in PostgreSQL, spread over shards.
//
// A user's row is in the bucket that its id carries. Who has an e-mail address is
// said by a claim in the bucket of the address. Where both are the same bucket,
// as the strategy hash has it at sign-up, one transaction writes both. Where they
// are not, the claim is made first and is pending; the user's row is written in a
// transaction that also notes the operation; then the claim is confirmed, and a
// claim that was given up is deleted last. Whoever finds a claim that nobody
// finished asks the user's bucket: it voids the operation there, so that it can
// not be done any more, and believes the row. No time-out decides anything.
package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

//go:embed schema/*.sql
var schema embed.FS

// Config is what a Store is made of.
type Config struct {
	Shards        []shard.Address
	Assigner      shard.Assigner
	MaxReplicaLag time.Duration // 0: 5 s
	MaxConns      int32         // to one server; 0: 16
	Distributed   bool          // one address of a database that spreads rows itself
	// Within, where it is set, is run in the transaction of writes that make users,
	// remove them or bring avatars, after them: what it queues there is done if and
	// only if the writes are. Other writes take one round trip less.
	Within  func(context.Context, pgx.Tx, []Event) error
	Log     *slog.Logger // nil: none
	Metrics *metrics.Set // nil: none
	// Tune changes the cluster's config, for tests.
	Tune func(*shard.Config)
}

// An Event is a write of a user.
type Event struct {
	Kind string // created | replaced | deleted
	User users.User
}

// Store is a users.Store.
type Store struct {
	cluster *shard.Cluster
	names   []string
	telling bool // of events
	log     *slog.Logger
	life    context.Context // until Close
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Tables are what moves of buckets copy.
func Tables() []shard.Table {
	return []shard.Table{
		{Name: "users", Key: "id", Columns: []string{"bucket", "id", "email", "email_norm", "email_op", "name", "name_key", "region",
			"attributes", "password_hash", "version", "last_op", "created_at", "updated_at"}},
		{Name: "email_claim", Key: "email_norm", Columns: []string{"bucket", "email_norm", "user_id", "op", "state", "expires_at"}},
		{Name: "write_op", Key: "op", Columns: []string{"bucket", "op", "done", "result", "created_at"}},
		{Name: "idempotency_key", Key: "key", Columns: []string{"bucket", "key", "hash", "user_id", "created_at"}},
	}
}

// Open connects to the shards, brings their schemas up to date, and runs what
// follows them until Close. A shard whose primary cannot be reached holds up
// nobody else: it is unavailable, but for what its replicas can answer, and joins
// when it is back. Without the first shard, which has the map, all of them are.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	sc := shard.Config{
		Shards: cfg.Shards, Assigner: cfg.Assigner, MaxReplicaLag: cfg.MaxReplicaLag, MaxConns: cfg.MaxConns,
		Distributed: cfg.Distributed, Schemas: []shard.Schema{{Name: "users", Files: schema, Dir: "schema"}}, Tables: Tables(),
		Log: cfg.Log, Metrics: cfg.Metrics,
	}
	if cfg.Within != nil {
		sc.Within = func(ctx context.Context, tx pgx.Tx, all []any) error {
			events := make([]Event, len(all))
			for i, e := range all {
				events[i] = e.(Event)
			}
			return cfg.Within(ctx, tx, events)
		}
	}
	if cfg.Tune != nil {
		cfg.Tune(&sc)
	}
	cluster, err := shard.New(sc)
	if err != nil {
		return nil, err
	}
	s := &Store{cluster: cluster, names: cluster.Names(), telling: cfg.Within != nil, log: cfg.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	life, stop := context.WithCancel(context.Background())
	s.life, s.stop = life, stop
	s.running.Go(func() { _ = cluster.Run(life) })
	s.running.Go(func() { s.sweep(life) })
	if err := s.begin(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// patience is how long Open waits for primaries: databases and services are often
// started together.
const patience = 3 * time.Second

// begin waits for every primary, and leaves those that are not there to join.
func (s *Store) begin(ctx context.Context) error {
	if err := s.cluster.Ready(ctx); err != nil {
		return fmt.Errorf("waiting for the shards: %w", err)
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for late := time.After(patience); ; {
		err := s.cluster.Migrate(ctx)
		var gone *shard.Unavailable
		if err == nil || !errors.As(err, &gone) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-late:
			s.log.Warn("going on without shards that cannot be reached; they join when they can be", "error", err)
			s.running.Go(func() { s.join(s.life, err) })
			return nil
		case <-ticker.C:
		}
	}
}

// join makes the schemas of shards that were away when the store was opened.
func (s *Store) join(ctx context.Context, last error) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := s.cluster.Migrate(ctx)
		if err == nil {
			s.log.Info("all shards are there")
			return
		}
		if ctx.Err() == nil && err.Error() != last.Error() {
			s.log.Warn("a shard has not joined yet", "error", err)
			last = err
		}
	}
}

// Close ends what the store runs and its connections.
func (s *Store) Close() error {
	s.stop()
	s.running.Wait()
	s.cluster.Close()
	return nil
}

// Cluster is what the store runs on, for the operations on shards.
func (s *Store) Cluster() *shard.Cluster { return s.cluster }

// Health asks every server.
func (s *Store) Health(ctx context.Context) []users.Check {
	var checks []users.Check
	all := s.cluster.Health(ctx)
	anybody := s.cluster.Router().Map() != nil && slices.ContainsFunc(all, func(h shard.HostHealth) bool { return h.Err == nil })
	for _, h := range all {
		checks = append(checks, users.Check{
			Name: fmt.Sprintf("shard %s %s %s", h.Shard, h.Listed, h.Address), Err: h.Err,
			// The other shards answer what is theirs: a service that is taken away
			// for one of them would take them away, too.
			Vital: h.Alone && !anybody, Spare: h.Spare,
		})
	}
	return checks
}

// sweep removes what is kept for repeated requests alone, a bucket a second.
func (s *Store) sweep(ctx context.Context) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for b := shard.Bucket(0); ; b = (b + 1) % shard.Buckets {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		_, err := s.cluster.Write(ctx, b, shard.Write{Op: "sweep", Queue: func(batch *pgx.Batch) {
			batch.Queue("DELETE FROM write_op WHERE bucket = $1 AND created_at < now() - interval '2 days'", int16(b))
			batch.Queue("DELETE FROM idempotency_key WHERE bucket = $1 AND created_at < now() - interval '2 days'", int16(b))
		}})
		if err != nil && ctx.Err() == nil {
			s.log.Debug("a bucket was not swept", "bucket", b, "error", err)
		}
	}
}

// position reads the token of a client.
func (s *Store) position(after users.Token) (t shard.Token, newest bool, err error) {
	if after == users.Newest {
		return t, true, nil
	}
	t, err = shard.DecodeToken(string(after), s.names)
	if err != nil {
		err = fmt.Errorf("%w: %w", users.ErrToken, err)
	}
	return t, false, err
}

// fail says what became of a request in the words of users.
func fail(err error) error {
	var u *shard.Unavailable
	if errors.As(err, &u) {
		return &users.Unavailable{What: u.What, Unknown: u.Unknown, Err: u.Err}
	}
	return err
}

func unknown(err error) bool {
	var u *shard.Unavailable
	return errors.As(err, &u) && u.Unknown
}
