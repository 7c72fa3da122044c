package jobs

import (
	"bytes"
	"context"
	"database/sql"
	"log/slog"
	"path/filepath"
	"testing"
)

// TestNothingYet: before anybody has made the tables there are no dead letters,
// and making them is nothing that an operator has to read about.
func TestNothingYet(t *testing.T) {
	var log bytes.Buffer
	cfg := Config{Shard: "s1", Log: slog.New(slog.NewTextHandler(&log, nil))}
	db, err := sql.Open("sqlite", SQLiteName(filepath.Join(t.TempDir(), "s1.sqlite")))
	must(t, err)
	t.Cleanup(func() { db.Close() })
	files, err := NewSQLite(db, cfg)
	must(t, err)
	server, err := NewPostgres(openPool(t, database(t)), cfg)
	must(t, err)
	for _, q := range []interface {
		Dead(context.Context, int64, int) ([]DeadLetter, error)
		Migrate(context.Context) error
	}{files, server} {
		for range 2 {
			if list, err := q.Dead(ctx, 0, 10); err != nil || len(list) > 0 {
				t.Errorf("%v, %v", list, err)
			}
			must(t, q.Migrate(ctx))
		}
	}
	if log.Len() > 0 {
		t.Errorf("logged: %s", log.String())
	}
}
