// Package pginstall finds the PostgreSQL server of this machine and runs its
// programs: for tests (internal/pgtest), and for the growth phases of bench/.
package pginstall

import (
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

// An Install is the PostgreSQL of this machine, and who runs it.
type Install struct {
	Version string // as postgres -V says

	bin  string
	cred *syscall.Credential // nil: as we are
}

// Find looks for the newest server under Debian's path, then in PATH. The error
// says what to install.
func Find() (*Install, error) {
	in := &Install{}
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
	in.Version = strings.TrimSpace(string(out))
	if os.Getuid() == 0 {
		in.cred, err = unprivileged()
	}
	return in, err
}

// unprivileged is whom the servers run as where we are root, which PostgreSQL
// refuses to be.
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

// Command is a program of PostgreSQL, which dies with this process, by SIGKILL
// unless its Pdeathsig is changed.
func (in *Install) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(in.bin, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + in.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: in.cred, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Own makes a file or folder one that the servers may write to.
func (in *Install) Own(path string) error {
	if in.cred == nil {
		return nil
	}
	return os.Lchown(path, int(in.cred.Uid), int(in.cred.Gid))
}

// InitDB makes the data directory of an empty server, whose superuser is that and
// needs no password.
func (in *Install) InitDB(dir, superuser string, more ...string) error {
	args := append([]string{"-D", dir, "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"}, more...)
	out, err := in.Command("initdb", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// CopyTree copies a data directory whose server is down.
func (in *Install) CopyTree(from, to string) error {
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
		return in.Own(target)
	})
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = dst.ReadFrom(src)
	return errors.Join(err, dst.Close())
}
