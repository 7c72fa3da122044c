// Package pgtest runs PostgreSQL for tests: clusters of a primary and its
// streaming replicas on loopback, from the binaries of the machine, in
// directories of their own that are gone with the test.
//
// A cluster starts in about a second: initdb is run once a machine, its result
// kept in the user's cache directory, and both primary and replicas begin as
// copies of it. Writes are handed to the kernel and not forced to the disk
// (fsync=off), which a killed server survives and a machine without power would
// not; Options.Durable forces them.
package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/sluice-edge/sluice/internal/pginstall"
)

// Options is what a cluster is made of.
type Options struct {
	Replicas int
	// Durable has every commit forced to the disk, as in production.
	Durable bool
	// Settings are lines of postgresql.conf, which beat those of this package.
	Settings map[string]string
}

// A Cluster is a primary and its replicas, as they were at the start: roles
// change with Promote.
type Cluster struct {
	Primary  *Server
	Replicas []*Server

	dir  string
	opts Options
}

// Start runs a cluster until the end of the test, which fails where PostgreSQL
// is missing.
func Start(t testing.TB, opts Options) *Cluster {
	t.Helper()
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, s := range c.Servers() {
				t.Logf("the last of the log of 127.0.0.1:%d:\n%s", s.Port, s.tail(2048))
			}
		}
		c.Close()
	})
	return c
}

// New runs a cluster until Close, for a TestMain.
func New(opts Options) (*Cluster, error) {
	found, err := pginstall.Find()
	if err != nil {
		return nil, err
	}
	in := install{found}
	dir, err := in.makeDir()
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, opts: opts}
	c.Primary = &Server{in: in, dir: filepath.Join(dir, "primary"), opts: opts}
	if err := c.begin(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) begin() error {
	in := c.Primary.in
	if err := in.template(c.Primary.dir); err != nil {
		return err
	}
	// The template was shut down, so that a copy of it is a base backup.
	for i := range c.opts.Replicas {
		r := &Server{in: in, dir: filepath.Join(c.dir, fmt.Sprint("replica", i+1)), opts: c.opts}
		if err := in.CopyTree(c.Primary.dir, r.dir); err != nil {
			return err
		}
		c.Replicas = append(c.Replicas, r)
	}
	if err := c.Primary.begin(0); err != nil {
		return err
	}
	errs := make([]error, len(c.Replicas))
	var wg sync.WaitGroup
	for i, r := range c.Replicas {
		wg.Go(func() { errs[i] = r.begin(c.Primary.Port) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// AddReplica adds a replica of a running server by pg_basebackup.
func (c *Cluster) AddReplica(t testing.TB, of *Server) *Server {
	t.Helper()
	r := &Server{in: of.in, dir: filepath.Join(c.dir, fmt.Sprint("replica", len(c.Replicas)+1)), opts: c.opts}
	out, err := of.in.Command("pg_basebackup", "-D", r.dir, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync",
		"-d", of.URL("postgres")).CombinedOutput()
	if err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	if err := r.begin(of.Port); err != nil {
		t.Fatal(err)
	}
	c.Replicas = append(c.Replicas, r)
	return r
}

// Servers returns the primary and the replicas.
func (c *Cluster) Servers() []*Server {
	return append([]*Server{c.Primary}, c.Replicas...)
}

// Close kills the servers and removes what they wrote.
func (c *Cluster) Close() {
	for _, s := range c.Servers() {
		s.Kill()
	}
	_ = os.RemoveAll(c.dir)
}
