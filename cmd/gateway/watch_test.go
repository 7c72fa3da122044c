package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A change is seen however it is made: each case changes the file under path.
func TestWatcher(t *testing.T) {
	cases := map[string]struct {
		lay    func(t *testing.T, dir string) (path string)
		change func(t *testing.T, dir string)
	}{
		"written in place": {
			lay:    func(t *testing.T, dir string) string { return put(t, dir, "gw.yaml", "old") },
			change: func(t *testing.T, dir string) { put(t, dir, "gw.yaml", "new") },
		},
		"renamed over": {
			lay: func(t *testing.T, dir string) string { return put(t, dir, "gw.yaml", "old") },
			change: func(t *testing.T, dir string) {
				must(t, os.Rename(put(t, dir, "gw.yaml.swp", "new"), filepath.Join(dir, "gw.yaml")))
			},
		},
		"moved away and written anew": {
			lay: func(t *testing.T, dir string) string { return put(t, dir, "gw.yaml", "old") },
			change: func(t *testing.T, dir string) {
				must(t, os.Rename(filepath.Join(dir, "gw.yaml"), filepath.Join(dir, "gw.yaml~")))
				put(t, dir, "gw.yaml", "new")
			},
		},
		"config map": {
			lay: func(t *testing.T, dir string) string {
				put(t, dir, "..1/gw.yaml", "old")
				must(t, os.Symlink("..1", filepath.Join(dir, "..data")))
				must(t, os.Symlink("..data/gw.yaml", filepath.Join(dir, "gw.yaml")))
				return filepath.Join(dir, "gw.yaml")
			},
			change: func(t *testing.T, dir string) {
				put(t, dir, "..2/gw.yaml", "new")
				must(t, os.Symlink("..2", filepath.Join(dir, "..data_tmp")))
				must(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
			},
		},
		"folder link swapped": {
			lay: func(t *testing.T, dir string) string {
				put(t, dir, "releases/1/gw.yaml", "old")
				put(t, dir, "releases/2/gw.yaml", "new")
				must(t, os.Symlink("releases/1", filepath.Join(dir, "current")))
				return filepath.Join(dir, "current/gw.yaml")
			},
			change: func(t *testing.T, dir string) {
				must(t, os.Symlink("releases/2", filepath.Join(dir, "next")))
				must(t, os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "current")))
			},
		},
		"link into another folder": {
			lay: func(t *testing.T, dir string) string {
				put(t, dir, "etc/x", "")
				must(t, os.Symlink("../"+"opt/gw.yaml", filepath.Join(dir, "etc/gw.yaml")))
				put(t, dir, "opt/gw.yaml", "old")
				return filepath.Join(dir, "etc/gw.yaml")
			},
			change: func(t *testing.T, dir string) { put(t, dir, "opt/gw.yaml", "new") },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := c.lay(t, dir)
			w, err := newWatcher(path)
			must(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			changes, done := make(chan string, 16), make(chan struct{})
			go func() {
				defer close(done)
				w.run(ctx, func() {
					data, _ := os.ReadFile(path)
					changes <- string(data)
				})
			}()
			c.change(t, dir)
			waitFor(t, changes, "new")
			cancel()
			<-done
		})
	}
}

// After a link was swapped, the file that it leads to now is the one watched.
func TestWatcherFollows(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a/gw.yaml", "a")
	put(t, dir, "b/gw.yaml", "b")
	path := filepath.Join(dir, "gw.yaml")
	must(t, os.Symlink("a/gw.yaml", path))
	w, err := newWatcher(path)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	changes, done := make(chan string, 16), make(chan struct{})
	go func() {
		defer close(done)
		w.run(ctx, func() {
			data, _ := os.ReadFile(path)
			changes <- string(data)
		})
	}()
	must(t, os.Symlink("b/gw.yaml", path+"~"))
	must(t, os.Rename(path+"~", path))
	waitFor(t, changes, "b")
	put(t, dir, "b/gw.yaml", "b2")
	waitFor(t, changes, "b2")
	cancel()
	<-done
	if want := holders(path); !maps.Equal(w.folders, want) {
		t.Errorf("watches %v, not %v", slices.Sorted(maps.Keys(w.folders)), slices.Sorted(maps.Keys(want)))
	}
}

// waitFor reads until want comes.
func waitFor(t *testing.T, changes <-chan string, want string) {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		select {
		case got := <-changes:
			if got == want {
				return
			}
		case <-limit:
			t.Fatalf("no change to %q was seen", want)
		}
	}
}

// put writes a file below dir and returns its path.
func put(t *testing.T, dir, name, data string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(data), 0o644))
	return path
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
