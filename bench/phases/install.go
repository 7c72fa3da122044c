package phases

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/sluice-edge/sluice/internal/pginstall"
)

// An Install is what of this machine phases are run with.
type Install struct {
	*pginstall.Install
	Gateway, Users string // binaries

	redis string
}

// Find looks for PostgreSQL and Redis; the error says what to install.
func Find() (*Install, error) {
	found, err := pginstall.Find()
	if err != nil {
		return nil, err
	}
	in := &Install{Install: found}
	if in.redis, err = exec.LookPath("redis-server"); err != nil {
		return nil, errors.New("there is no redis-server: apt-get install redis-server")
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
		_ = in.Own(dir)
	}
	return dir
}
