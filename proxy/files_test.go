package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/routing"
)

var fileTime = time.Date(2024, 5, 6, 7, 8, 9, 123456789, time.UTC)

// writeFile makes a file with its folders, and gives it a time in the past.
func writeFile(t *testing.T, root, name, content string) {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	setFileTime(t, path, fileTime)
}

func setFileTime(t *testing.T, path string, at time.Time) {
	t.Helper()
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func filesSetup(root, index string) Setup {
	return Setup{Name: "assets", Decode: func(into any) error {
		f := into.(*Files)
		if f.Root = root; index != "-" {
			f.Index = index
		}
		return nil
	}}
}

func newTestFiles(t *testing.T, root string) *filesBackend {
	t.Helper()
	b, err := newFiles(filesSetup(root, "-"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.(io.Closer).Close() })
	return b.(*filesBackend)
}

// A fileAnswer is what a client would have got.
type fileAnswer struct {
	status int
	header Header
	length int64
	body   string
	err    error
}

func (a *fileAnswer) field(name string) string {
	v, _ := a.header.Lookup(name)
	return v
}

// fileExchange makes the exchange of a request as "Name: value" lines, its path
// brought to the normal form as the walk does.
func fileExchange(t testing.TB, method, target string, lines ...string) *Exchange {
	t.Helper()
	x := &Exchange{}
	x.Request.Method, x.Request.Target = []byte(method), []byte(target)
	path, query, _ := bytes.Cut(x.Request.Target, []byte("?"))
	normal, _, err := routing.Paths{EncodedSlash: routing.EncodedSlashKeep}.Normalize(nil, path)
	if err != nil {
		t.Fatalf("%s: %v", target, err)
	}
	x.Request.Path, x.Request.Query = normal, query
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		x.Request.Fields = append(x.Request.Fields, Field{Name: []byte(name), Value: []byte(value)})
	}
	return x
}

// askFiles sends a request to b; everything that must hold for all answers is held.
func askFiles(t testing.TB, b *filesBackend, method, target string, lines ...string) *fileAnswer {
	t.Helper()
	return finishFiles(t, b, fileExchange(t, method, target, lines...))
}

func finishFiles(t testing.TB, b *filesBackend, x *Exchange) *fileAnswer {
	t.Helper()
	err := b.Serve(x)
	if err != nil {
		var p *Problem
		if !errors.As(err, &p) {
			t.Fatalf("%s: %v is no Problem", x.Request.Target, err)
		}
		return &fileAnswer{status: p.Status, err: err}
	}
	r := &x.Response
	a := &fileAnswer{status: r.Status, header: r.Header, length: r.ContentLength}
	if r.Body != nil {
		if x.Request.IsHead() {
			t.Errorf("HEAD %s has a body", x.Request.Target)
		}
		all, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("%s: body: %v", x.Request.Target, err)
		}
		a.body = string(all)
		if err := r.Body.Close(); err != nil {
			t.Errorf("%s: close: %v", x.Request.Target, err)
		}
	}
	if !x.Request.IsHead() && int64(len(a.body)) != r.ContentLength {
		t.Errorf("%s: %d bytes, ContentLength is %d", x.Request.Target, len(a.body), r.ContentLength)
	}
	if a.field("Content-Length") != "" {
		t.Errorf("%s: Content-Length is the adapter's", x.Request.Target)
	}
	return a
}

func TestFilesPaths(t *testing.T) {
	outside := t.TempDir()
	writeFile(t, outside, "secret.txt", "secret")
	root := filepath.Join(outside, "root")
	for name, content := range map[string]string{
		"index.html": "home", "a.txt": "a", "dir/index.html": "dir", "empty/x.txt": "x",
		"with space.txt": "space", "größe/ü.txt": "unicode", "100%.txt": "percent", "%41.txt": "literal",
		".env": "no", ".git/config": "no", "dir/.htpasswd": "no", ".well-known/acme": "acme",
		".well-known/.x": "no", "dir/.well-known/x": "no", "..data/x": "no", "...": "no",
		"odd/index.html/x": "folder", "semi;colon.txt": "semicolon", "q?.txt": "question",
		"empty.txt": "",
	} {
		writeFile(t, root, name, content)
	}
	for link, to := range map[string]string{
		"in.txt": "a.txt", "data.txt": "..data/x", "dir/up.txt": "../a.txt", "indir": "dir",
		"out.txt": "../secret.txt", "abs.txt": filepath.Join(outside, "secret.txt"), "outdir": "..",
		"absin.txt": filepath.Join(root, "a.txt"), "loop": "loop", "nowhere": "missing", "dir/out": "../../secret.txt",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	b := newTestFiles(t, root)
	for _, tt := range []struct {
		target string
		status int
		want   string // body, or Location
	}{
		{"/", 200, "home"}, {"/index.html", 200, "home"}, {"/a.txt", 200, "a"}, {"/a.txt?v=1", 200, "a"},
		{"/empty.txt", 200, ""},
		{"/dir", 301, "/dir/"}, {"/dir?a=1&b=%20", 301, "/dir/?a=1&b=%20"}, {"/dir/", 200, "dir"},
		{"/dir/../a.txt", 200, "a"}, {"/dir/%2e%2e/a.txt", 200, "a"}, {"/indir", 301, "/indir/"}, {"/indir/", 200, "dir"},
		{"/a.txt/", 404, ""}, {"/empty", 404, ""}, {"/empty/", 404, ""}, {"/odd/", 404, ""}, {"/missing", 404, ""}, {"/a.txt/b", 404, ""},
		{"/with%20space.txt", 200, "space"}, {"/gr%C3%B6%C3%9Fe/%c3%bc.txt", 200, "unicode"}, {"/gr%C3%B6%C3%9Fe", 404, ""},
		{"/100%25.txt", 200, "percent"}, {"/%2541.txt", 200, "literal"}, {"/semi;colon.txt", 200, "semicolon"}, {"/q%3F.txt", 200, "question"},
		{"/dir%2Findex.html", 404, ""}, {"/dir%2f", 404, ""}, {"/%2Fa.txt", 404, ""}, {"//a.txt", 404, ""}, {"/dir//index.html", 404, ""}, {"//", 404, ""},
		{"/.env", 404, ""}, {"/%2eenv", 404, ""}, {"/.git/config", 404, ""}, {"/dir/.htpasswd", 404, ""}, {"/..data/x", 404, ""}, {"/...", 404, ""},
		{"/.well-known/acme", 200, "acme"}, {"/.well-known/.x", 404, ""}, {"/dir/.well-known/x", 404, ""}, {"/.well-known", 404, ""}, {"/.well-known2", 404, ""},
		{"/in.txt", 200, "a"}, {"/data.txt", 200, "no"}, {"/dir/up.txt", 200, "a"},
		{"/out.txt", 404, ""}, {"/abs.txt", 404, ""}, {"/absin.txt", 404, ""}, {"/outdir", 404, ""}, {"/outdir/", 404, ""}, {"/outdir/secret.txt", 404, ""},
		{"/outdir/root/a.txt", 404, ""}, {"/loop", 404, ""}, {"/nowhere", 404, ""}, {"/dir/out", 404, ""},
		{"/" + strings.Repeat("x", 300), 404, ""}, {"/" + strings.Repeat("x/", 3000) + "y", 404, ""},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := askFiles(t, b, method, tt.target)
			got := a.body
			if a.status == 301 {
				got = a.field("Location")
			} else if method == "HEAD" {
				got = tt.want
				if a.status == 200 && a.length != int64(len(tt.want)) {
					t.Errorf("HEAD %s: ContentLength %d, want %d", tt.target, a.length, len(tt.want))
				}
			}
			if a.status != tt.status || got != tt.want {
				t.Errorf("%s %.60s: %d %q, want %d %q", method, tt.target, a.status, got, tt.status, tt.want)
			}
		}
	}
}

// Paths that a rewrite may have made, and which no client could have sent.
func TestFileName(t *testing.T) {
	for _, tt := range []struct {
		path, name string
		isFolder   bool
		ok         bool
	}{
		{"", ".", false, true}, {"/", ".", true, true}, {"/a", "a", false, true}, {"/a/b/", "a/b", true, true},
		{"/a%25b", "a%b", false, true}, {"/a%2525", "a%25", false, true},
		{"a", "", false, false}, {"/..", "", false, false}, {"/a/../b", "", false, false}, {"/./a", "", false, false},
		{"/%2e%2e/a", "", false, false}, {"/%2E/a", "", false, false}, {"/a%2Fb", "", false, false}, {"/a%2fb", "", false, false},
		{"/a%5Cb", "", false, false}, {`/a\b`, "", false, false}, {"/a%00", "", false, false}, {"/a\x00", "", false, false},
		{"/a%0a", "", false, false}, {"/a%7f", "", false, false},
		{"/%", "", false, false}, {"/%2", "", false, false}, {"/%zz", "", false, false}, {"/a%2", "", false, false},
		{"//", "", false, false}, {"/a//", "", false, false}, {"*", "", false, false},
	} {
		name, isFolder, ok := fileName([]byte(tt.path))
		if ok != tt.ok || ok && (name != tt.name || isFolder != tt.isFolder) {
			t.Errorf("fileName(%q) = %q, %v, %v", tt.path, name, isFolder, ok)
		}
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"/", "/a/b", "/%25", "/.well-known/x", "/%2e%2e/", "/a%2F..", "/a/\\..\\b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, path []byte) {
		name, _, ok := fileName(path)
		if !ok || name == "." {
			return
		}
		if !filepath.IsLocal(name) || filepath.Clean(name) != name || strings.ContainsAny(name, "\\\x00") {
			t.Fatalf("%q became %q", path, name)
		}
		for i, s := range strings.Split(name, "/") {
			if s[0] == '.' && !(i == 0 && s == ".well-known") {
				t.Fatalf("%q became %q", path, name)
			}
		}
	})
}

func TestFolderLocation(t *testing.T) {
	for target, want := range map[string]string{
		"/dir": "/dir/", "/p/dir?x=//y": "/p/dir/?x=//y", "/dir?": "/dir/", "/d%C3%A9": "/d%C3%A9/",
		"//evil.example/dir": "/evil.example/dir/", "///evil.example/%2e%2e/dir": "/evil.example/%2e%2e/dir/",
		`/\evil.example`: "/evil.example/", `\\evil.example`: "/evil.example/", `/a\b`: "/a%5Cb/",
		"/a#b": "/a%23b/", "/a\r\nX: y": "/a%0D%0AX:%20y/", "/a?b#\r\n": "/a/?b%23%0D%0A",
		"/dir/": "", "/dir/?q": "", "//": "", "": "", "*": "/*/",
	} {
		got, ok := folderLocation([]byte(target))
		if got != want || ok != (want != "") {
			t.Errorf("folderLocation(%q) = %q, %v, want %q", target, got, ok, want)
		}
	}
}

// A rewrite that has stripped a prefix leaves another path than the client's.
func TestFilesStrippedPrefix(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root, "index.html", "home")
	writeFile(t, root, "dir/index.html", "dir")
	b := newTestFiles(t, root)
	for _, tt := range []struct{ target, path, want string }{
		{"/assets/dir?q=1", "/dir", "301 /assets/dir/?q=1"},
		{"/assets", "", "301 /assets/"},
		{"/assets/", "", "200 home"}, // no way further: never a loop
		{"/assets/dir/", "/dir", "200 dir"},
		{"//assets/dir", "/dir", "301 /assets/dir/"},
	} {
		x := fileExchange(t, "GET", "/")
		x.Request.Target, x.Request.Path = []byte(tt.target), []byte(tt.path)
		a := finishFiles(t, b, x)
		if got := fmt.Sprint(a.status, " ", a.field("Location"), a.body); got != tt.want {
			t.Errorf("%s as %s: %s, want %s", tt.target, tt.path, got, tt.want)
		}
	}
}

func TestFilesMethods(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root, "a.txt", "a")
	b := newTestFiles(t, root)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "get", "TRACE", ""} {
		err := b.Serve(fileExchange(t, method, "/a.txt"))
		var p *Problem
		if !errors.As(err, &p) || p.Status != 405 || strings.Join(p.Allow, ",") != "GET,HEAD" {
			t.Errorf("%q: %v", method, err)
		}
	}
	if a := askFiles(t, b, "OPTIONS", "/a.txt"); a.status != 204 || a.field("Allow") != "GET, HEAD" {
		t.Errorf("OPTIONS: %+v", a)
	}
}

func TestFileProblem(t *testing.T) {
	for errno, want := range map[syscall.Errno]int{
		syscall.ENOENT: 404, syscall.ENOTDIR: 404, syscall.ELOOP: 404, syscall.ENAMETOOLONG: 404, syscall.ENXIO: 404,
		syscall.EACCES: 403, syscall.EPERM: 403, syscall.EMFILE: 503, syscall.ENFILE: 503, syscall.EIO: 500,
	} {
		err := fileProblem(&os.PathError{Op: "openat", Path: "x", Err: errno})
		var p *Problem
		if !errors.As(err, &p) || p.Status != want {
			t.Errorf("%v: %v, want %d", errno, err, want)
		}
		if want != 404 && !errors.Is(err, errno) {
			t.Errorf("%v is not in %v", errno, err)
		}
	}
}

func TestFilesPermission(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read everything")
	}
	root := t.TempDir()
	writeFile(t, root, "a.txt", "a")
	if err := os.Chmod(filepath.Join(root, "a.txt"), 0); err != nil {
		t.Fatal(err)
	}
	if a := askFiles(t, newTestFiles(t, root), "GET", "/a.txt"); a.status != 403 {
		t.Errorf("%d, want 403", a.status)
	}
}

func TestNewFiles(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root, "a.txt", "a")
	for _, tt := range []struct{ root, index, want string }{
		{filepath.Join(root, "none"), "-", "root: "}, {filepath.Join(root, "a.txt"), "-", "root: "}, {"", "-", "root: "},
		{root, "a/b", "index: "}, {root, "..", "index: "}, {root, ".hidden", "index: "}, {root, `a\b`, "index: "},
	} {
		_, err := newFiles(filesSetup(tt.root, tt.index))
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
	wrong := errors.New("not understood")
	if _, err := newFiles(Setup{Decode: func(any) error { return wrong }}); err != wrong {
		t.Errorf("Decode's error became %v", err)
	}
	b, err := newFiles(filesSetup(root, ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/", "/x"} {
		if a := askFiles(t, b.(*filesBackend), "GET", target); a.status != 404 {
			t.Errorf("%s without an index: %d", target, a.status)
		}
	}
}
