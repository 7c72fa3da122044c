package pgtest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/sluice-edge/sluice/internal/pginstall"
)

// An install is the PostgreSQL of this machine, with what is kept of it.
type install struct{ *pginstall.Install }

// makeDir makes a directory that the servers may write to.
func (in install) makeDir() (string, error) {
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return "", err
	}
	return dir, in.Own(dir)
}

// template puts the data directory of a fresh server at dir, from the cache if
// it is there.
func (in install) template(dir string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return in.InitDB(dir, "postgres", "--wal-segsize=1")
	}
	kept := filepath.Join(cache, "sluice-pgtest", strings.NewReplacer(" ", "_", "/", "_").Replace(in.Version))
	if _, err := os.Stat(filepath.Join(kept, "PG_VERSION")); err == nil {
		return in.CopyTree(kept, dir)
	}
	if err := in.InitDB(dir, "postgres", "--wal-segsize=1"); err != nil {
		return err
	}
	return in.keep(dir, kept)
}

// keep stores a copy of dir under the name kept, all of it or nothing: another
// process may be doing the same.
func (in install) keep(dir, kept string) error {
	if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
		return err
	}
	half, err := os.MkdirTemp(filepath.Dir(kept), "new")
	if err != nil {
		return err
	}
	defer os.RemoveAll(half)
	if err := in.CopyTree(dir, filepath.Join(half, "data")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(half, "data"), kept); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}
