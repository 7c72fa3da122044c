package proxy

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFilesConditions(t *testing.T) {
	root := t.TempDir()
	writeFile(t, root, "a.txt", "content")
	b := newTestFiles(t, root)
	first := askFiles(t, b, "GET", "/a.txt")
	tag, same := first.field("ETag"), first.field("Last-Modified")
	if strings.HasPrefix(tag, "W/") || len(tag) < 4 || same != fileTime.Format(http.TimeFormat) {
		t.Fatalf("validators %q and %q", tag, same)
	}
	before := fileTime.Add(-time.Second).Format(http.TimeFormat)
	after := fileTime.Add(time.Second).Format(http.TimeFormat)
	for _, tt := range []struct {
		lines  string
		status int
	}{
		{"If-Match: *", 200}, {"If-Match: " + tag, 200}, {"If-Match: \"x\"", 412}, {"If-Match: W/" + tag, 412}, {"If-Match: \"x\", " + tag, 200},
		{"If-Match: \"x\"\nIf-Match: " + tag, 200}, {"If-Match: \"x\"\nIf-Match: \"y\"", 412}, {"If-Match: ", 412}, {"If-Match: junk", 412},
		{"If-Match: \"a,b\" , " + tag, 200}, {"If-Match: \"x\" " + tag, 412}, {"If-Match: ,, " + tag, 200},
		{"If-Unmodified-Since: " + same, 200}, {"If-Unmodified-Since: " + before, 412}, {"If-Unmodified-Since: " + after, 200}, {"If-Unmodified-Since: junk", 200},
		{"If-None-Match: *", 304}, {"If-None-Match: " + tag, 304}, {"If-None-Match: W/" + tag, 304}, {"If-None-Match: \"x\"", 200}, {"If-None-Match: \"x\",W/" + tag, 304},
		{"If-None-Match: \"x\"\nIf-None-Match: " + tag, 304}, {"If-None-Match: ", 200}, {"If-None-Match: junk", 200}, {"If-None-Match: \"unclosed", 200}, {"If-None-Match: W/", 200},
		{"If-Modified-Since: " + same, 304}, {"If-Modified-Since: " + before, 200}, {"If-Modified-Since: " + after, 304}, {"If-Modified-Since: junk", 200},
		{"If-Modified-Since: " + same + "\nIf-Modified-Since: " + same, 200}, {"If-Modified-Since: Monday, 06-May-24 07:08:09 GMT", 304}, {"If-Modified-Since: Mon May  6 07:08:09 2024", 304},
		// The order of section 13.2.2.
		{"If-Match: " + tag + "\nIf-Unmodified-Since: " + before, 200}, {"If-Match: \"x\"\nIf-Unmodified-Since: " + after, 412},
		{"If-Match: " + tag + "\nIf-None-Match: " + tag, 304}, {"If-Match: \"x\"\nIf-None-Match: " + tag, 412},
		{"If-None-Match: \"x\"\nIf-Modified-Since: " + same, 200}, {"If-None-Match: " + tag + "\nIf-Modified-Since: " + before, 304},
		{"If-Unmodified-Since: " + before + "\nIf-Modified-Since: " + same, 412}, {"If-Unmodified-Since: " + same + "\nIf-Modified-Since: " + same, 304},
		{"If-Match: *\nIf-Modified-Since: " + same, 304}, {"If-Range: \"x\"", 200},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := askFiles(t, b, method, "/a.txt", strings.Split(tt.lines, "\n")...)
			if a.status != tt.status {
				t.Errorf("%s %q: %d, want %d", method, tt.lines, a.status, tt.status)
			}
			if a.status == 304 && (a.field("ETag") != tag || len(a.header.Fields) != 1 || a.length != 0) {
				t.Errorf("%s %q: 304 with %s", method, tt.lines, a.header.Fields)
			}
		}
	}
	// Where the answer would be no 2xx, conditions do not count (section 13.2.1).
	if a := askFiles(t, b, "GET", "/none.txt", "If-Match: \"x\"", "If-None-Match: *"); a.status != 404 {
		t.Errorf("missing file: %d", a.status)
	}
}

func TestFilesValidators(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, "a.txt")
	writeFile(t, root, "a.txt", "content")
	b := newTestFiles(t, root)
	tag := func() string { return askFiles(t, b, "GET", "/a.txt").field("ETag") }
	was := tag()
	setFileTime(t, path, fileTime.Add(time.Nanosecond))
	if tag() == was {
		t.Error("a nanosecond makes no difference")
	}
	writeFile(t, root, "a.txt", "content!")
	if tag() == was {
		t.Error("the size makes no difference")
	}

	setFileTime(t, path, time.Now().Add(time.Hour))
	a := askFiles(t, b, "GET", "/a.txt")
	if at, err := http.ParseTime(a.field("Last-Modified")); err != nil || at.After(time.Now()) {
		t.Errorf("Last-Modified %q is later than now", a.field("Last-Modified"))
	}
	if again := askFiles(t, b, "GET", "/a.txt", "If-Modified-Since: "+a.field("Last-Modified")); again.status != 200 {
		t.Errorf("a file of the future: %d", again.status)
	}

	setFileTime(t, path, time.Unix(1, 0))
	for _, line := range []string{"If-None-Match: " + was, "If-Modified-Since: " + time.Now().UTC().Format(http.TimeFormat), "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "X: y"} {
		if a := askFiles(t, b, "GET", "/a.txt", line); a.status != 200 || a.field("ETag") != "" || a.field("Last-Modified") != "" {
			t.Errorf("without a time, %s: %d %s", line, a.status, a.header.Fields)
		}
	}

	now := time.Now().Truncate(time.Second)
	young := validators{tag: `"x"`, modified: now}
	x := fileExchange(t, "GET", "/", "If-Range: "+now.UTC().Format(http.TimeFormat))
	if young.rangeApplies(&x.Request, now.Add(time.Millisecond)) {
		t.Error("a date that is no strong validator yet")
	}
	if !young.rangeApplies(&x.Request, now.Add(time.Second)) {
		t.Error("a date that is a strong validator")
	}
}

func TestFilesPrecompressed(t *testing.T) {
	root := t.TempDir()
	plain := strings.Repeat("plain ", 10_000)
	writeFile(t, root, "x.js", plain)
	writeFile(t, root, "x.js.br", "brotli")
	writeFile(t, root, "x.js.gz", "gzipped")
	writeFile(t, root, "only.css", "css")
	writeFile(t, root, "only.css.gz", "css.gz")
	writeFile(t, root, "old.js", "new content")
	writeFile(t, root, "old.js.gz", "old")
	setFileTime(t, filepath.Join(root, "old.js.gz"), fileTime.Add(-time.Nanosecond))
	writeFile(t, root, "cut.js", "content")
	writeFile(t, root, "cut.js.gz", "")
	writeFile(t, root, "alone.js", "alone")
	writeFile(t, root, "ghost.js.gz", "ghost")
	writeFile(t, root, "noext", "<!DOCTYPE html><p>")
	writeFile(t, root, "noext.gz", "\x1f\x8bnothing")
	writeFile(t, root, "index.html", "home")
	writeFile(t, root, "index.html.br", "home.br")
	b := newTestFiles(t, root)
	for _, tt := range []struct {
		target, accept string
		status         int
		coding         string
	}{
		{"/x.js", "-", 200, ""}, {"/x.js", "", 200, ""}, {"/x.js", "br", 200, "br"}, {"/x.js", "gzip", 200, "gzip"}, {"/x.js", "x-gzip", 200, "gzip"},
		{"/x.js", "gzip, deflate, br, zstd", 200, "br"}, {"/x.js", "GZIP;Q=1.0, BR;q=0.9", 200, "gzip"}, {"/x.js", "*", 200, "br"},
		{"/x.js", "br;q=0, *", 200, "gzip"}, {"/x.js", "deflate", 200, ""}, {"/x.js", "identity", 200, ""}, {"/x.js", "identity, gzip;q=0.5", 200, ""},
		{"/x.js", "identity;q=0.5, gzip;q=0.5", 200, "gzip"}, {"/x.js", "gzip;q=0", 200, ""}, {"/x.js", "gzip;q=0.000", 200, ""}, {"/x.js", "gzip;q=0.001", 200, "gzip"},
		{"/x.js", "gzip;q=2", 200, ""}, {"/x.js", "gzip;q=1.001", 200, ""}, {"/x.js", "gzip;q=0.1234", 200, ""}, {"/x.js", "gzip;foo", 200, ""}, {"/x.js", "gzip ; q=0.5 , br; q=0.4", 200, "gzip"},
		{"/x.js", "identity;q=0", 406, ""}, {"/x.js", "*;q=0", 406, ""}, {"/x.js", "identity;q=0, br;q=0.1", 200, "br"}, {"/x.js", "*;q=0, identity", 200, ""}, {"/x.js", "*;q=0, gzip", 200, "gzip"},
		{"/x.js", "identity;q=0, *;q=0.1", 200, "br"}, {"/x.js", "gzip;q=0.1, *;q=0.5", 200, "br"}, {"/x.js", "*;q=0.5, br;q=0, gzip;q=0", 200, ""},
		{"/only.css", "br", 200, ""}, {"/only.css", "br, gzip;q=0.1", 200, "gzip"}, {"/only.css", "br, identity;q=0", 406, ""},
		{"/old.js", "gzip", 200, ""}, {"/cut.js", "gzip", 200, ""}, {"/alone.js", "gzip", 200, ""}, {"/alone.js", "identity;q=0", 200, ""},
		{"/ghost.js", "gzip", 404, ""}, {"/x.js.gz", "gzip", 200, ""}, {"/x.js.br", "br", 200, ""}, {"/noext", "gzip", 200, "gzip"}, {"/", "br", 200, "br"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			var lines []string
			if tt.accept != "-" {
				lines = append(lines, "Accept-Encoding: "+tt.accept)
			}
			a := askFiles(t, b, method, tt.target, lines...)
			if a.status != tt.status || a.field("Content-Encoding") != tt.coding {
				t.Errorf("%s %s, accepting %q: %d %q, want %d %q", method, tt.target, tt.accept, a.status, a.field("Content-Encoding"), tt.status, tt.coding)
			}
		}
	}

	tags := map[string]bool{}
	for accept, want := range map[string]string{"identity": plain, "gzip": "gzipped", "br": "brotli"} {
		a := askFiles(t, b, "GET", "/x.js", "Accept-Encoding: "+accept)
		if a.body != want || a.field("Vary") != "Accept-Encoding" || a.field("Content-Type") != "text/javascript; charset=utf-8" {
			t.Errorf("%s: %.20q %s", accept, a.body, a.header.Fields)
		}
		tag := a.field("ETag")
		tags[tag] = true
		n := askFiles(t, b, "GET", "/x.js", "Accept-Encoding: "+accept, "If-None-Match: "+tag)
		if n.status != 304 || n.field("Vary") != "Accept-Encoding" || n.field("ETag") != tag || n.field("Content-Encoding") != "" {
			t.Errorf("%s: %d %s", accept, n.status, n.header.Fields)
		}
	}
	if len(tags) != 3 {
		t.Errorf("entity tags %v", tags)
	}
	if a := askFiles(t, b, "GET", "/x.js", "Accept-Encoding: gzip", "Range: bytes=1-2"); a.status != 206 || a.body != "zi" || a.field("Content-Range") != "bytes 1-2/7" || a.field("Content-Encoding") != "gzip" {
		t.Errorf("range: %+v", a)
	}
	for target, vary := range map[string]string{"/x.js": "Accept-Encoding", "/alone.js": "", "/old.js": "", "/x.js.gz": ""} {
		if got := askFiles(t, b, "GET", target).field("Vary"); got != vary {
			t.Errorf("%s: Vary %q", target, got)
		}
	}
	for target, want := range map[string]string{"/x.js.gz": "application/gzip", "/noext": "text/html; charset=utf-8"} {
		if got := askFiles(t, b, "GET", target, "Accept-Encoding: gzip").field("Content-Type"); got != want {
			t.Errorf("%s: %q", target, got)
		}
	}
	if got := askFiles(t, b, "GET", "/x.js", "Accept-Encoding: identity;q=0", "Accept-Encoding: br").field("Content-Encoding"); got != "br" {
		t.Errorf("two fields: %q", got)
	}
}

func TestMediaType(t *testing.T) {
	for _, tt := range []struct{ name, start, want string }{
		{"a.html", "", "text/html; charset=utf-8"}, {"A.HTML", "", "text/html; charset=utf-8"}, {"x.min.js", "", "text/javascript; charset=utf-8"},
		{"a.json", "<html>", "application/json"}, {"a.svg", "", "image/svg+xml"}, {"a.woff2", "", "font/woff2"}, {"a.tar.gz", "", "application/gzip"},
		{"dir.html/plain", "hello", "text/plain; charset=utf-8"}, {"LICENSE", "text\n", "text/plain; charset=utf-8"}, {"x", "\x89PNG\r\n\x1a\n", "image/png"},
		{"x.", "\x00\x01", "application/octet-stream"}, {"x.unheard-of", "%PDF-1.7", "application/pdf"}, {"empty", "", "text/plain; charset=utf-8"},
	} {
		got, err := mediaType(tt.name, strings.NewReader(tt.start))
		if err != nil || got != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
	if got := withCharset("text/x-go"); got != "text/x-go; charset=utf-8" {
		t.Error(got)
	}
}

func FuzzFileFields(f *testing.F) {
	f.Add(`"a", W/"b"`, "gzip;q=0.5, *;q=0")
	f.Add(`*`, "br")
	f.Fuzz(func(t *testing.T, tags, codings string) {
		v := validators{tag: `"tag"`}
		if v.listed(tags, false) && !v.listed(tags, true) {
			t.Fatalf("%q matches strongly and not weakly", tags)
		}
		a := readAccepted(codings, true)
		for _, w := range append(a.weight[:], a.identity) {
			if w < 0 || w > 1000 {
				t.Fatalf("%q: %+v", codings, a)
			}
		}
	})
}
