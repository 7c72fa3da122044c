package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	for _, tt := range []struct {
		field string
		size  int64
		want  string // start+length…, "none" for ignored, "416"
	}{
		{"bytes=0-4", 10, "0+5"}, {"bytes=0-0", 10, "0+1"}, {"bytes=9-9", 10, "9+1"}, {"bytes=5-", 10, "5+5"}, {"bytes=0-", 10, "0+10"},
		{"bytes=-3", 10, "7+3"}, {"bytes=-10", 10, "0+10"}, {"bytes=-99", 10, "0+10"}, {"bytes=5-99", 10, "5+5"},
		{"BYTES=0-4", 10, "0+5"}, {"bytes= 0-4 , 6-7", 10, "0+5 6+2"}, {"bytes=,0-1,,\t3-4,", 10, "0+2 3+2"},
		{"bytes=0-1,20-30", 10, "0+2"}, {"bytes=20-30,0-1", 10, "0+2"}, {"bytes=-0,0-1", 10, "0+2"},
		{"bytes=10-", 10, "416"}, {"bytes=10-20", 10, "416"}, {"bytes=-0", 10, "416"}, {"bytes=-0,11-", 10, "416"},
		{"bytes=5-4", 10, "none"}, {"bytes=0-1,5-4", 10, "none"}, {"bytes=20-19", 10, "none"},
		{"bytes=", 10, "none"}, {"bytes=,", 10, "none"}, {"bytes=-", 10, "none"}, {"bytes=--1", 10, "none"}, {"bytes=1", 10, "none"},
		{"bytes=a-b", 10, "none"}, {"bytes=0 - 4", 10, "none"}, {"bytes=+1-2", 10, "none"}, {"bytes=0x1-2", 10, "none"}, {"bytes=1-2-3", 10, "none"},
		{"items=0-4", 10, "none"}, {"bytes 0-4", 10, "none"}, {"", 10, "none"}, {"0-4", 10, "none"}, {"bytes=0-4;5-6", 10, "none"}, {"bytes=0-1,x", 10, "none"},
		{"bytes=0-99999999999999999999", 10, "0+10"}, {"bytes=99999999999999999999-", 10, "416"}, {"bytes=-99999999999999999999", 10, "0+10"},
		{"bytes=99999999999999999999-99999999999999999998", 10, "none"}, {"bytes=99999999999999999998-99999999999999999999", 10, "416"},
		{"bytes=0000000000000000000000001-02", 10, "1+2"}, {"bytes=9223372036854775807-9223372036854775807", 10, "416"},
		{"bytes=0-9223372036854775807", 1<<63 - 1, "0+9223372036854775807"},
		{"bytes=0-0", 0, "none"}, {"bytes=-1", 0, "none"},
		{"bytes=" + strings.Repeat("0-0,", 257), 10, "none"},
	} {
		ranges, satisfiable := parseRange(tt.field, tt.size)
		if got := describeRanges(ranges, satisfiable); got != tt.want {
			t.Errorf("parseRange(%.60q, %d) = %s, want %s", tt.field, tt.size, got, tt.want)
		}
	}
}

func describeRanges(ranges []byteRange, satisfiable bool) string {
	switch {
	case !satisfiable:
		return "416"
	case len(ranges) == 0:
		return "none"
	}
	var out []string
	for _, r := range ranges {
		out = append(out, fmt.Sprintf("%d+%d", r.start, r.length))
	}
	return strings.Join(out, " ")
}

func TestCoalesceRanges(t *testing.T) {
	spread := func(n int) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("%d-%d", i*10, i*10+1))
		}
		return "bytes=" + strings.Join(out, ",")
	}
	for _, tt := range []struct{ field, want string }{
		{"bytes=0-1,5-6", "0+2 5+2"}, {"bytes=5-6,0-1", "5+2 0+2"}, {"bytes=0-4,5-9", "0+10"}, {"bytes=5-9,0-4", "0+10"}, {"bytes=0-5,3-9", "0+10"},
		{"bytes=0-9,2-3", "0+10"}, {"bytes=900-,0-1,2-3", "900+100 0+4"}, {"bytes=0-1,900-,2-3", "0+4 900+100"}, {"bytes=0-1,3-4", "0+2 3+2"},
		{"bytes=0-,0-", "none"}, {"bytes=0-999,-1", "none"}, {"bytes=0-9,1-9,2-9,3-9", "none"}, {"bytes=0-9,1-9,2-9", "0+10"},
		{spread(17), "none"}, {"bytes=" + strings.Repeat("0-0,", 256), "none"},
	} {
		ranges, _ := parseRange(tt.field, 1000)
		if got := describeRanges(coalesceRanges(ranges, 1000), true); got != tt.want {
			t.Errorf("%.60q: %s, want %s", tt.field, got, tt.want)
		}
	}
	ranges, _ := parseRange(spread(16), 1000)
	if got := len(coalesceRanges(ranges, 1000)); got != 16 {
		t.Errorf("16 ranges became %d", got)
	}
}

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=-5,0-3,2-", "bytes=,,1-1", "bytes=9-99999999999999999999", "x=1-2"} {
		f.Add(s, int64(100))
	}
	f.Fuzz(func(t *testing.T, field string, size int64) {
		if size < 0 {
			return
		}
		ranges, satisfiable := parseRange(field, size)
		if !satisfiable && len(ranges) > 0 {
			t.Fatal("ranges, and not satisfiable")
		}
		covered := map[byteRange]bool{}
		for _, r := range ranges {
			covered[r] = true
		}
		out := coalesceRanges(ranges, size)
		if len(out) > maxRanges {
			t.Fatalf("%d ranges", len(out))
		}
		for i, r := range out {
			if r.start < 0 || r.length <= 0 || r.end() > size || r.end() < r.start {
				t.Fatalf("%+v of %d", r, size)
			}
			for _, o := range out[:i] {
				if r.start <= o.end() && o.start <= r.end() {
					t.Fatalf("%+v and %+v are not one", r, o)
				}
			}
		}
		for asked := range covered {
			found := len(out) == 0
			for _, r := range out {
				found = found || r.start <= asked.start && asked.end() <= r.end()
			}
			if !found {
				t.Fatalf("%+v was lost in %+v", asked, out)
			}
		}
		if len(out) > 0 {
			plan := planRanges(out, size, "text/plain", func() string { return "B" })
			var sum int64
			for _, p := range plan.pieces {
				sum += int64(len(p.head)) + p.length
			}
			if sum != plan.length {
				t.Fatalf("length %d, pieces have %d", plan.length, sum)
			}
		}
	})
}

func TestFilesRange(t *testing.T) {
	root := t.TempDir()
	digits := "0123456789"
	big := strings.Repeat(digits, 10_000)
	writeFile(t, root, "d.txt", digits)
	writeFile(t, root, "big.txt", big)
	writeFile(t, root, "empty.txt", "")
	b := newTestFiles(t, root)
	tag := askFiles(t, b, "GET", "/d.txt").field("ETag")
	modified := askFiles(t, b, "GET", "/d.txt").field("Last-Modified")
	for _, tt := range []struct {
		target, lines string
		status        int
		contentRange  string
		body          string
	}{
		{"/d.txt", "Range: bytes=2-4", 206, "bytes 2-4/10", "234"},
		{"/d.txt", "Range: bytes=-4", 206, "bytes 6-9/10", "6789"},
		{"/d.txt", "Range: bytes=0-", 206, "bytes 0-9/10", digits},
		{"/d.txt", "Range: bytes=0-4,5-6", 206, "bytes 0-6/10", "0123456"},
		{"/d.txt", "Range: bytes=4-2", 200, "", digits},
		{"/d.txt", "Range: bytes=0-,0-", 200, "", digits},
		{"/d.txt", "Range: bytes=0-1\nRange: bytes=2-3", 200, "", digits},
		{"/d.txt", "Range: bytes=10-", 416, "bytes */10", ""},
		{"/empty.txt", "Range: bytes=0-", 200, "", ""},
		{"/big.txt", "Range: bytes=50000-50004", 206, "bytes 50000-50004/100000", "01234"},
		{"/big.txt", "Range: bytes=1-99998", 206, "bytes 1-99998/100000", big[1:99999]},
		{"/d.txt", "Range: bytes=2-4\nIf-Range: " + tag, 206, "bytes 2-4/10", "234"},
		{"/d.txt", "Range: bytes=2-4\nIf-Range: W/" + tag, 200, "", digits},
		{"/d.txt", "Range: bytes=2-4\nIf-Range: \"x\"", 200, "", digits},
		{"/d.txt", "Range: bytes=2-4\nIf-Range: " + tag + ", \"x\"", 200, "", digits},
		{"/d.txt", "Range: bytes=2-4\nIf-Range: " + modified, 206, "bytes 2-4/10", "234"},
		{"/d.txt", "Range: bytes=2-4\nIf-Range: Mon, 06 May 2024 07:08:10 GMT", 200, "", digits},
		{"/d.txt", "Range: bytes=2-4\nIf-Range: junk", 200, "", digits},
		{"/d.txt", "Range: bytes=99-\nIf-Range: \"x\"", 200, "", digits},
		{"/d.txt", "Range: bytes=99-\nIf-None-Match: " + tag, 304, "", ""},
		{"/d.txt", "Range: bytes=99-\nIf-Match: \"x\"", 412, "", ""},
	} {
		lines := strings.Split(tt.lines, "\n")
		a := askFiles(t, b, "GET", tt.target, lines...)
		if a.status == 416 {
			a.body = ""
		}
		if a.status != tt.status || a.field("Content-Range") != tt.contentRange || a.body != tt.body {
			t.Errorf("%s %q: %d %q %.40q", tt.target, tt.lines, a.status, a.field("Content-Range"), a.body)
		}
		if (a.status == 200 || a.status == 206) && (a.field("Accept-Ranges") != "bytes" || a.field("ETag") == "" || a.field("Last-Modified") == "") {
			t.Errorf("%s %q: fields %s", tt.target, tt.lines, a.header.Fields)
		}
		if h := askFiles(t, b, "HEAD", tt.target, lines...); tt.status == 206 || tt.status == 416 {
			if h.status != 200 || h.field("Content-Range") != "" || h.length < 10 {
				t.Errorf("HEAD %s %q: %d, length %d", tt.target, tt.lines, h.status, h.length)
			}
		}
	}
}

func TestFilesMultipart(t *testing.T) {
	root := t.TempDir()
	big := strings.Repeat("0123456789", 10_000)
	writeFile(t, root, "big.txt", big)
	b := newTestFiles(t, root)
	for _, tt := range []struct {
		field string
		parts [][2]int
	}{
		{"bytes=0-1,5-6,-3", [][2]int{{0, 2}, {5, 7}, {99997, 100000}}},
		{"bytes=60000-,0-29999", [][2]int{{60000, 100000}, {0, 30000}}},
	} {
		a := askFiles(t, b, "GET", "/big.txt", "Range: "+tt.field)
		media, params, err := mime.ParseMediaType(a.field("Content-Type"))
		if a.status != 206 || err != nil || media != "multipart/byteranges" || a.field("Content-Range") != "" {
			t.Fatalf("%s: %d %s", tt.field, a.status, a.header.Fields)
		}
		parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
		for _, want := range tt.parts {
			p, err := parts.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(p)
			if err != nil || string(content) != big[want[0]:want[1]] {
				t.Errorf("%s: part %v has %d bytes, %v", tt.field, want, len(content), err)
			}
			if got := p.Header.Get("Content-Range"); got != fmt.Sprintf("bytes %d-%d/100000", want[0], want[1]-1) {
				t.Error(got)
			}
			if got := p.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
				t.Error(got)
			}
		}
		if _, err := parts.NextRawPart(); err != io.EOF {
			t.Errorf("%s: %v after the last part", tt.field, err)
		}
	}
}

// plainWriter hides that a buffer can read for itself.
type plainWriter struct{ w io.Writer }

func (p plainWriter) Write(b []byte) (int, error) { return p.w.Write(b) }

func TestFileBody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	big := strings.Repeat("0123456789", 10_000)
	if err := os.WriteFile(path, []byte(big), 0o644); err != nil {
		t.Fatal(err)
	}
	pieces := []filePiece{{head: []byte("<"), start: 70_000, length: 30_000}, {head: []byte("|"), start: 5, length: 60_000}, {head: []byte(">")}}
	want := "<" + big[70_000:] + "|" + big[5:60_005] + ">"
	body := func() *fileBody {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return &fileBody{file: f, rest: pieces}
	}
	var out bytes.Buffer
	for name, write := range map[string]func(*fileBody) (int64, error){
		"Read":                  func(b *fileBody) (int64, error) { return io.Copy(&out, struct{ io.Reader }{b}) },
		"WriteTo, ReaderFrom":   func(b *fileBody) (int64, error) { return b.WriteTo(&out) },
		"WriteTo, plain writer": func(b *fileBody) (int64, error) { return b.WriteTo(plainWriter{&out}) },
		"Read, then WriteTo": func(b *fileBody) (int64, error) {
			n, err := io.CopyN(&out, struct{ io.Reader }{b}, 40_001)
			if err != nil {
				return n, err
			}
			m, err := b.WriteTo(&out)
			return n + m, err
		},
	} {
		out.Reset()
		b := body()
		if n, err := write(b); err != nil || n != int64(len(want)) || out.String() != want {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
		if n, err := b.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("%s: after the end %d, %v", name, n, err)
		}
		shrunk := body()
		if err := os.Truncate(path, 80_000); err != nil {
			t.Fatal(err)
		}
		out.Reset()
		if n, err := write(shrunk); !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF || n != 10_001 || err == nil {
			t.Errorf("%s of a shrunken file: %d bytes, %v", name, n, err)
		}
		if err := os.WriteFile(path, []byte(big), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
