// Package sqlite keeps users in SQLite files, one a shard, in a directory of its
// own: what the service runs on where nothing else is installed.
//
// Each file has one writer and several readers (WAL). Commits are forced to the
// disk before they are acknowledged. A write that touches two files, as the
// address of a user may be claimed in another than the user's, leaves at every
// moment a claim behind that says where to look for the truth; Open settles what
// a crash has left.
package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// Config is where users are kept, and in which shard each.
type Config struct {
	Dir    string   // created where it is missing
	Shards []string // their names; what a directory was made with, it keeps
	Layout string   // how users are placed, to tell directories apart: "hash"
	Assign shard.Assigner

	Metrics *metrics.Set // nil: none
	// OnWrite is called in the transaction of every write, before its commit;
	// its error undoes the write. It is the place to enqueue jobs.
	OnWrite func(ctx context.Context, tx *sql.Tx, c users.Change) error
}

// onceKept is how long an Idempotency-Key is remembered, at least.
const onceKept = 48 * time.Hour

// ErrTaken says that another process has the directory.
var ErrTaken = errors.New("another process has it open")

// A Store is a users.Store over SQLite files.
type Store struct {
	cfg    Config
	id     string // of the directory, for tokens
	files  []*file
	lock   *os.File
	keys   [64]sync.Mutex // of idempotency keys: one request a time
	moving [64]sync.Mutex // of users: one takes another address at a time
	closed sync.Once
}

// Open opens the files of a directory, or makes them, and settles what a crash
// has left. One process at a time has a directory.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if len(cfg.Shards) == 0 || cfg.Assign == nil {
		return nil, errors.New("a store needs a shard at least, and a placement")
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the users' data cannot be kept in %s: %w", cfg.Dir, inner(err))
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, lock: lock}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) error {
	if err := s.layout(); err != nil {
		return err
	}
	for _, name := range s.cfg.Shards {
		f, err := openFile(ctx, filepath.Join(s.cfg.Dir, name+".sqlite"), name, s.cfg.Metrics)
		if err != nil {
			return err
		}
		s.files = append(s.files, f)
	}
	return s.settle(ctx)
}

// layout holds the directory to what it was made with. Users would be looked for
// where they are not.
func (s *Store) layout() error {
	path := filepath.Join(s.cfg.Dir, "layout")
	want := s.cfg.Layout + " " + strings.Join(s.cfg.Shards, " ")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		s.id = newID()
		return writeFile(path, want+"\n"+s.id+"\n")
	}
	if err != nil {
		return err
	}
	have, id, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if have != want {
		return fmt.Errorf("the data in %s was laid out as %q, and the configuration says %q; moving it to another layout is not possible here: use another data_dir", s.cfg.Dir, have, want)
	}
	s.id = id
	return nil
}

func newID() string {
	b := make([]byte, 8)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// writeFile writes a small file so that a crash leaves all of it or nothing.
func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func inner(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Close ends the store. Calls that run fail.
func (s *Store) Close() error {
	var errs []error
	s.closed.Do(func() {
		for _, f := range s.files {
			errs = append(errs, f.close())
		}
		errs = append(errs, s.lock.Close())
	})
	return errors.Join(errs...)
}

// Health writes nothing and reads from every file.
func (s *Store) Health(ctx context.Context) []users.Check {
	checks := make([]users.Check, len(s.files))
	for i, f := range s.files {
		var n int
		err := f.read.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1)`).Scan(&n)
		checks[i] = users.Check{Name: "shard " + f.name, Err: err, Vital: true}
	}
	return checks
}

// Sizes says what the files hold.
func (s *Store) Sizes(ctx context.Context) ([]shard.Size, error) {
	sizes := make([]shard.Size, len(s.files))
	for b := range shard.Bucket(shard.Buckets) {
		sizes[s.cfg.Assign.Home(b)].Buckets++
	}
	for i, f := range s.files {
		z := &sizes[i]
		z.Name = f.name
		err := f.read.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM users), page_count * page_size FROM pragma_page_count(), pragma_page_size()`).
			Scan(&z.Rows, &z.Bytes)
		if err != nil {
			return nil, err
		}
	}
	return sizes, nil
}

// token is what every write returns. Readers see what is committed, so there is
// nothing more to it than whose it is.
func (s *Store) token() users.Token { return users.Token("sqlite|" + s.id) }

// known refuses tokens of others. One of this directory from before is one of
// this directory.
func (s *Store) known(after users.Token) error {
	if after == "" || after == users.Newest || after == s.token() {
		return nil
	}
	return users.ErrToken
}

// Saw implements users.Store.
func (s *Store) Saw(_ context.Context, _ string, _ int64, after users.Token) (users.Token, error) {
	return s.token(), s.known(after)
}

// homeOf is the file that has, or would have, the user of an ID.
func (s *Store) homeOf(id string) (*file, bool) {
	parsed, err := shard.ParseID(id)
	if err != nil {
		return nil, false
	}
	return s.files[s.cfg.Assign.Home(parsed.Bucket())], true
}

// claimOf is the file where an address is claimed, whoever has it.
func (s *Store) claimOf(normalEmail string) *file {
	return s.files[s.cfg.Assign.Home(shard.KeyBucket(normalEmail))]
}

// failure is what the service answers where SQLite cannot. The client's own end
// of the wait is none of it.
func failure(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, sql.ErrNoRows), isOurs(err):
		return err
	case ctx.Err() != nil:
		return &users.Unavailable{What: "the time for the request is over", Err: err}
	}
	return &users.Unavailable{What: "the users' data cannot be read or written", Err: err}
}

var ours = []error{users.ErrNotFound, users.ErrEmailTaken, users.ErrKeyReused, users.ErrCursor, users.ErrToken}

func isOurs(err error) bool {
	var conflict *users.Conflict
	var down *users.Unavailable
	if errors.As(err, &conflict) || errors.As(err, &down) {
		return true
	}
	return slices.ContainsFunc(ours, func(one error) bool { return errors.Is(err, one) })
}
