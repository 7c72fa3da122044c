package phases

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// URL is where one of the server's databases is.
func (p *Process) URL(database string) string {
	return "postgres://users@" + p.Address + "/" + database + "?sslmode=disable"
}

// database makes the data directory of a server, and its command.
func (r *Running) database(p *Process) (*exec.Cmd, error) {
	in := r.opts.Install
	p.Dir = filepath.Join(r.opts.Dir, p.Name)
	from := r.opts.Data[p.Name]
	var err error
	switch {
	case p.Of != "": // by then the primary has begun
		out, failed := in.Command("pg_basebackup", "-D", in.empty(p.Dir), "-X", "stream", "--checkpoint=fast", "--no-sync",
			"-d", r.Process(p.Of).URL("postgres")).CombinedOutput()
		if failed != nil {
			err = fmt.Errorf("pg_basebackup: %w\n%s", failed, out)
		}
	case from != "":
		err = in.CopyTree(from, p.Dir)
	default:
		err = in.InitDB(in.empty(p.Dir), "users")
	}
	if err != nil {
		return nil, err
	}
	cmd := in.Command("postgres", "-D", p.Dir)
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT // which ends its children as well
	return cmd, r.configure(p)
}

// configure writes what is to be otherwise than PostgreSQL's defaults, the same
// in every phase.
func (r *Running) configure(p *Process) error {
	host, port, err := net.SplitHostPort(p.Address)
	if err != nil {
		return err
	}
	settings := map[string]string{
		"listen_addresses": host, "port": port, "unix_socket_directories": "", "max_connections": "200",
		"shared_buffers": "512MB", "max_wal_size": "4GB", "wal_keep_size": "512MB",
		"jit": "off", "log_min_messages": "warning", "cluster_name": p.Name,
	}
	if r.opts.Settled {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	if p.Of != "" {
		host, port, _ := net.SplitHostPort(r.Process(p.Of).Address)
		settings["primary_conninfo"] = fmt.Sprintf("host=%s port=%s user=users application_name=%s", host, port, p.Name)
		if err := r.write(p, "standby.signal", ""); err != nil {
			return err
		}
	}
	var b strings.Builder
	for key, value := range settings {
		fmt.Fprintf(&b, "%s = '%s'\n", key, value)
	}
	return r.write(p, "postgresql.conf", b.String())
}

func (r *Running) write(p *Process, name, text string) error {
	path := filepath.Join(p.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	return r.opts.Install.Own(path)
}

// createDatabase makes the database users where there is none yet; a primary
// must answer for it, a replica must have it.
func (p *Process) createDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.URL("users"))
	if err == nil {
		return conn.Close(ctx)
	}
	if p.Of != "" || !strings.Contains(err.Error(), "3D000") { // invalid_catalog_name
		return err
	}
	if conn, err = pgx.Connect(ctx, p.URL("postgres")); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE users")
	return errors.Join(err, conn.Close(ctx))
}
