//go:build unix

package proxy

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestFilesIrregular(t *testing.T) {
	root := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(root, "pipe.txt"), 0o666); err != nil {
		t.Skip(err)
	}
	if err := os.Symlink("pipe.txt", filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	t.Chdir(root) // a socket's path is short
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: "socket"}); err != nil {
		t.Fatal(err)
	}
	writeFile(t, root, "a.js", "a")
	if err := syscall.Mkfifo(filepath.Join(root, "a.js.gz"), 0o666); err != nil {
		t.Fatal(err)
	}
	b := newTestFiles(t, root)
	for _, target := range []string{"/pipe.txt", "/link", "/socket", "/pipe.txt/"} {
		if a := askFiles(t, b, "GET", target); a.status != 404 {
			t.Errorf("%s: %d", target, a.status)
		}
	}
	if a := askFiles(t, b, "GET", "/a.js", "Accept-Encoding: gzip"); a.status != 200 || a.body != "a" || a.field("Vary") != "" {
		t.Errorf("a.js: %+v", a)
	}
	if syscall.Mknod(filepath.Join(root, "null"), syscall.S_IFCHR|0o666, 1<<8|3) == nil {
		if a := askFiles(t, b, "GET", "/null"); a.status != 404 {
			t.Errorf("device: %d", a.status)
		}
	}
}
