package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// missing is the error where PostgreSQL cannot be run.
func missing(format string, args ...any) error {
	return fmt.Errorf(format+": install PostgreSQL's server (Debian: apt-get install postgresql; make test does so when root)", args...)
}

// An install is the PostgreSQL of this machine, and who runs it.
type install struct {
	bin     string
	version string              // as postgres -V says
	cred    *syscall.Credential // nil: as we are
}

// find looks for the newest server under Debian's path, then in PATH.
func find() (*install, error) {
	in := &install{}
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is good
	newest := 0
	for _, dir := range dirs {
		v, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil && v > newest {
			newest, in.bin = v, dir
		}
	}
	if in.bin == "" {
		path, err := exec.LookPath("initdb")
		if err != nil {
			return nil, missing("there is no initdb under /usr/lib/postgresql nor in PATH")
		}
		in.bin = filepath.Dir(path)
	}
	out, err := exec.Command(filepath.Join(in.bin, "postgres"), "-V").Output()
	if err != nil {
		return nil, missing("%s/postgres -V: %v", in.bin, err)
	}
	in.version = strings.TrimSpace(string(out))
	if os.Getuid() == 0 {
		in.cred, err = unprivileged()
	}
	return in, err
}

// unprivileged is whom the servers run as where the tests run as root, which
// PostgreSQL refuses to.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.ParseUint(u.Uid, 10, 32)
		gid, errG := strconv.ParseUint(u.Gid, 10, 32)
		if errU == nil && errG == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, missing("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

// command runs a program of PostgreSQL, which dies with this process.
func (in *install) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(in.bin, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + in.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: in.cred, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// makeDir makes a directory that the servers may write to.
func (in *install) makeDir() (string, error) {
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return "", err
	}
	return dir, in.own(dir)
}

func (in *install) own(path string) error {
	if in.cred == nil {
		return nil
	}
	return os.Lchown(path, int(in.cred.Uid), int(in.cred.Gid))
}

// template puts the data directory of a fresh server at dir, from the cache if
// it is there.
func (in *install) template(dir string) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return in.initdb(dir)
	}
	kept := filepath.Join(cache, "sluice-pgtest", strings.NewReplacer(" ", "_", "/", "_").Replace(in.version))
	if _, err := os.Stat(filepath.Join(kept, "PG_VERSION")); err == nil {
		return in.copyDir(kept, dir)
	}
	if err := in.initdb(dir); err != nil {
		return err
	}
	return in.keep(dir, kept)
}

// keep stores a copy of dir under the name kept, all of it or nothing: another
// process may be doing the same.
func (in *install) keep(dir, kept string) error {
	if err := os.MkdirAll(filepath.Dir(kept), 0o700); err != nil {
		return err
	}
	half, err := os.MkdirTemp(filepath.Dir(kept), "new")
	if err != nil {
		return err
	}
	defer os.RemoveAll(half)
	if err := in.copyDir(dir, filepath.Join(half, "data")); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(half, "data"), kept); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return err
	}
	return nil
}

func (in *install) initdb(dir string) error {
	var out bytes.Buffer
	cmd := in.command("initdb", "-D", dir, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
		"--no-sync", "--no-instructions", "--wal-segsize=1")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb: %v\n%s", err, out.Bytes())
	}
	return nil
}

func (in *install) copyDir(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			err = os.Mkdir(target, 0o700)
		} else {
			err = copyFile(path, target)
		}
		if err != nil {
			return err
		}
		return in.own(target)
	})
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
