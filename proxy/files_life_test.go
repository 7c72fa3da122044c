package proxy

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A generation is closed while exchanges are on their way to its backends.
func TestFilesClosed(t *testing.T) {
	root := t.TempDir()
	big := strings.Repeat("0123456789", 10_000)
	writeFile(t, root, "big.txt", big)
	writeFile(t, root, "dir/index.html", "dir")
	b := newTestFiles(t, root)
	x := fileExchange(t, "GET", "/big.txt")
	if err := b.Serve(x); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if all, err := io.ReadAll(x.Response.Body); err != nil || string(all) != big {
		t.Errorf("body after Close: %d bytes, %v", len(all), err)
	}
	_ = x.Response.Body.Close()
	if a := askFiles(t, b, "GET", "/big.txt"); a.body != big {
		t.Errorf("Serve after Close: %d, %d bytes", a.status, len(a.body))
	}
	if a := askFiles(t, b, "GET", "/dir"); a.status != 301 {
		t.Errorf("folder after Close: %d", a.status)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if a := askFiles(t, b, "GET", "/big.txt"); a.status != 500 {
		t.Errorf("Serve after Close without a folder: %d", a.status)
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

// Files are replaced as deployments do it, by renaming, while they are served:
// an answer is one version or another, and its fields are of that version.
func TestFilesReplaced(t *testing.T) {
	root := t.TempDir()
	b := newTestFiles(t, root)
	content := func(i int) string {
		return strings.Repeat(string(rune('a'+i%26)), 1000+(i%40)*1000)
	}
	replace := func(i int) error {
		temporary, path := filepath.Join(root, "new"), filepath.Join(root, "x.txt")
		if err := os.WriteFile(temporary, []byte(content(i)), 0o644); err != nil {
			return err
		}
		at := fileTime.Add(time.Duration(i) * time.Second)
		if err := os.Chtimes(temporary, at, at); err != nil {
			return err
		}
		return os.Rename(temporary, path)
	}
	if err := replace(0); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				a := askFiles(t, b, "GET", "/x.txt")
				at, err := http.ParseTime(a.field("Last-Modified"))
				if a.status != 200 || err != nil {
					t.Errorf("%d %v %v", a.status, err, a.err)
					return
				}
				if i := int(at.Sub(fileTime.Truncate(time.Second)) / time.Second); a.body != content(i) {
					t.Errorf("version %d has another's content", i)
					return
				}
			}
		})
	}
	for i := 1; i < 300; i++ {
		if err := replace(i); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	wg.Wait()
}

// No path through the backend may leave a file open.
func TestFilesLeaveNothingOpen(t *testing.T) {
	if _, err := os.ReadDir("/proc/self/fd"); err != nil {
		t.Skip(err)
	}
	open := func() int {
		entries, _ := os.ReadDir("/proc/self/fd")
		return len(entries)
	}
	root := t.TempDir()
	writeFile(t, root, "dir/index.html", "dir")
	writeFile(t, root, "big.js", strings.Repeat("x", 100_000))
	writeFile(t, root, "big.js.gz", strings.Repeat("y", 50_000))
	b := newTestFiles(t, root)
	tag := askFiles(t, b, "GET", "/big.js").field("ETag")
	before := open()
	for range 20 {
		for _, lines := range [][]string{
			nil, {"Accept-Encoding: gzip"}, {"Accept-Encoding: identity;q=0"}, {"If-None-Match: " + tag}, {"If-Match: \"x\""},
			{"Range: bytes=0-20000"}, {"Range: bytes=0-1"}, {"Range: bytes=0-1,99998-"}, {"Range: bytes=999999-"},
		} {
			for _, method := range []string{"GET", "HEAD"} {
				for _, target := range []string{"/big.js", "/dir", "/dir/", "/", "/big.js/", "/nothing"} {
					askFiles(t, b, method, target, lines...)
				}
			}
		}
	}
	if after := open(); after > before {
		t.Errorf("%d files open, %d before", after, before)
	}
}

// A connection is written to by the kernel, from the file; what arrives is the
// same as by any other way.
func TestFilesOverTCP(t *testing.T) {
	root := t.TempDir()
	big := strings.Repeat("0123456789", 100_000)
	writeFile(t, root, "big.txt", big)
	b := newTestFiles(t, root)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	for field, want := range map[string]string{"bytes=0-": big, "bytes=7-900006": big[7:900007]} {
		x := fileExchange(t, "GET", "/big.txt", "Range: "+field)
		if err := b.Serve(x); err != nil {
			t.Fatal(err)
		}
		got := make(chan string)
		go func() {
			c, err := listener.Accept()
			if err != nil {
				got <- err.Error()
				return
			}
			all, _ := io.ReadAll(c)
			_ = c.Close()
			got <- string(all)
		}()
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		n, err := x.Response.Body.(io.WriterTo).WriteTo(c)
		_ = c.Close()
		_ = x.Response.Body.Close()
		if all := <-got; all != want || err != nil || n != int64(len(want)) {
			t.Errorf("%s: %d bytes sent, %d arrived, %v", field, n, len(all), err)
		}
	}
}

// Small bodies are in memory, large ones are not, and both end with their length.
func TestFilesInMemory(t *testing.T) {
	root := t.TempDir()
	for name, want := range map[string]bool{"small": true, "large": false} {
		size := maxInMemory
		if !want {
			size++
		}
		writeFile(t, root, name, strings.Repeat("x", size))
		x := fileExchange(t, "GET", "/"+name)
		if err := newTestFiles(t, root).Serve(x); err != nil {
			t.Fatal(err)
		}
		_, inMemory := x.Response.Body.(interface{ Buffered() ([]byte, bool) })
		_, writes := x.Response.Body.(io.WriterTo)
		if inMemory != want || !inMemory && !writes {
			t.Errorf("%s: in memory %v, io.WriterTo %v", name, inMemory, writes)
		}
		_ = x.Response.Body.Close()
	}
}
