package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	watchQuiet = 100 * time.Millisecond // without an event before a change counts
	watchMost  = time.Second            // after which it counts all the same
)

// A watcher tells that one of several files may have changed. It watches
// folders, not files: editors rename over them, and a Kubernetes config map swaps
// a symlink two steps away from them.
type watcher struct {
	path    string // of the configuration
	fs      *fsnotify.Watcher
	folders map[string]bool
	more    chan []string // files that are to be watched besides
	others  []string      // that are

	followed func() // called when others are watched: what has happened to them before went unseen
}

// newWatcher watches what decides about path from now on; nothing is lost
// between this and run.
func newWatcher(path string) (*watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s: %w", path, err)
	}
	w := &watcher{path: path, fs: fs, folders: map[string]bool{}, more: make(chan []string, 1)}
	if err := w.follow(); err != nil {
		fs.Close()
		return nil, err
	}
	return w, nil
}

// also watches these files besides, and those of the last call no longer. One
// goroutine calls it at a time.
func (w *watcher) also(files []string) {
	select {
	case <-w.more: // nobody has asked for those
	default:
	}
	w.more <- files
}

// follow watches the folders that decide about the files now, and no longer
// those that did.
func (w *watcher) follow() error {
	want := holders(w.path)
	for _, path := range w.others {
		maps.Copy(want, holders(path))
	}
	var failed error
	for dir := range want {
		if err := w.fs.Add(dir); err != nil {
			failed = fmt.Errorf("cannot watch %s: %w", dir, err)
		}
	}
	for dir := range w.folders {
		if !want[dir] {
			_ = w.fs.Remove(dir) // the folder may be gone, and its watch with it
		}
	}
	w.folders = want
	return failed
}

// holders are the folder of the file that an absolute path leads to, and the
// folder of every link on the way.
func holders(path string) map[string]bool {
	dirs := map[string]bool{}
	dir, parts := "/", segments(path)
	for links := 0; len(parts) > 0 && links < 40; parts = parts[1:] {
		full := filepath.Join(dir, parts[0])
		to, err := os.Readlink(full)
		if err != nil { // no link
			if len(parts) == 1 {
				dirs[dir] = true
			}
			dir = full
			continue
		}
		dirs[dir] = true
		links++
		if filepath.IsAbs(to) {
			dir = "/"
		}
		parts = slices.Concat(parts[:1], segments(to), parts[1:])
	}
	return dirs
}

func segments(path string) []string {
	return strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
}

// run calls changed after each burst of events, until ctx is done. A call does
// not mean that the file is another: other files share its folder.
func (w *watcher) run(ctx context.Context, changed func()) {
	defer w.fs.Close()
	quiet := time.NewTimer(0)
	<-quiet.C
	var first time.Time // event of the burst; zero between two bursts
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if e.Op == fsnotify.Chmod {
				continue
			}
			now := time.Now()
			if first.IsZero() {
				first = now
			}
			quiet.Reset(min(watchQuiet, first.Add(watchMost).Sub(now)))
		case w.others = <-w.more:
			_ = w.follow() // as below
			w.followed()
		case <-w.fs.Errors: // events were lost: look
			quiet.Reset(watchQuiet)
		case <-quiet.C:
			first = time.Time{}
			_ = w.follow() // what cannot be watched now is tried again at the next event
			changed()
		}
	}
}
