package phases

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

// An Install is what of this machine phases are run with.
type Install struct {
	Gateway, Users string // binaries
	Version        string // of PostgreSQL

	bin   string              // PostgreSQL's
	cred  *syscall.Credential // nil: it runs as we do
	redis string
}

// Find looks for PostgreSQL and Redis; the error says what to install.
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
			return nil, errors.New("there is no PostgreSQL server: apt-get install postgresql")
		}
		in.bin = filepath.Dir(path)
	}
	out, err := exec.Command(filepath.Join(in.bin, "postgres"), "-V").Output()
	if err != nil {
		return nil, fmt.Errorf("postgres -V: %w", err)
	}
	in.Version = strings.TrimSpace(string(out))
	if in.redis, err = exec.LookPath("redis-server"); err != nil {
		return nil, errors.New("there is no redis-server: apt-get install redis-server")
	}
	if os.Getuid() == 0 {
		if in.cred, err = unprivileged(); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// Build builds what the phases run of the module at root, into dir.
func (in *Install) Build(root, dir string, list []*Phase) error {
	needed := map[string]bool{}
	for _, p := range list {
		for _, s := range p.Specs {
			switch s.Kind {
			case "gateway":
				needed["gateway"] = true
			case "users", "worker":
				needed["users"] = true
			}
		}
	}
	for name, to := range map[string]*string{"gateway": &in.Gateway, "users": &in.Users} {
		if *to != "" || !needed[name] {
			continue
		}
		*to = filepath.Join(dir, name)
		cmd := exec.Command("go", "build", "-trimpath", "-o", *to, "./cmd/"+name)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("building cmd/%s: %w\n%s", name, err, out)
		}
	}
	return nil
}

// unprivileged is whom PostgreSQL runs as where we are root, which it refuses
// to be.
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
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

// postgres is a program of PostgreSQL.
func (in *Install) postgres(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(in.bin, name), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + in.bin + ":/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: in.cred, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (in *Install) own(path string) error {
	if in.cred == nil {
		return nil
	}
	return os.Lchown(path, int(in.cred.Uid), int(in.cred.Gid))
}

// initdb makes an empty database cluster, whose superuser is users.
func (in *Install) initdb(dir string) error {
	out, err := in.postgres("initdb", "-D", dir, "-U", "users", "-A", "trust", "-E", "UTF8", "--locale=C",
		"--no-sync", "--no-instructions").CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// copyTree copies a data directory whose server is down.
func (in *Install) copyTree(from, to string) error {
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

// Scratch makes a folder for phases; databases that run as another user find
// their way into it.
func Scratch() (string, error) {
	dir, err := os.MkdirTemp("", "sluice-phases")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o711)
}

// empty makes a directory that PostgreSQL may fill; where it cannot, whoever
// fills it says so.
func (in *Install) empty(dir string) string {
	if os.Mkdir(dir, 0o700) == nil {
		_ = in.own(dir)
	}
	return dir
}
