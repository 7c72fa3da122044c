package edgecache

import (
	"strings"
	"testing"
	"time"
)

// Whatever an origin says, an entry that comes of it keeps to its bounds and can
// be read again.
func FuzzJudge(f *testing.F) {
	for _, seed := range []string{
		"Cache-Control: max-age=60, s-maxage=\"1\", no-cache=\"a, b\"\nETag: W/\"x\"\nVary: a, Accept-Language\nDate: Sun, 06 Nov 1994 08:49:37 GMT",
		"CDN-Cache-Control: max-age=1;a=\"b\", x=:YQ==:, y=?0\nExpires: Sunday, 06-Nov-94 08:49:37 GMT\nAge: 5, 6\nCache-Groups: \"a\", \"b\\\"\"",
		"Last-Modified: Sun Nov  6 08:49:37 1994\nContent-Range: bytes 0-4/10\nSurrogate-Key: a b\nCache-Tag: c,d\nSet-Cookie: a",
	} {
		f.Add(seed, "Accept-Language: de;q=0.5, en\nRange: bytes=0-4\nIf-None-Match: \"x\", W/\"y\"\nAuthorization: z", uint16(200), int64(5))
	}
	f.Fuzz(func(t *testing.T, response, request string, status uint16, length int64) {
		req, res := requestOf("GET", request), responseOf(int(status%600), response)
		res.Length = length
		rules := ordinary()
		rules.StaleError = time.Minute
		e, why := rules.Judge(req, res)
		if why != "" {
			if e != nil {
				t.Fatal("refused, and stored")
			}
			return
		}
		e.SetHead(res)
		if e.Lifetime > maxSeconds || e.InitialAge > maxSeconds || e.Lifetime > 86400 {
			t.Fatalf("%+v", e)
		}
		if !e.selected(req.Fields, nil) {
			t.Fatalf("it is not for the request that it answers: %q", e.Vary)
		}
		for _, line := range strings.SplitAfter(string(e.Head), "\r\n") {
			if line != "" && (!strings.HasSuffix(line, "\r\n") || !strings.Contains(line, ": ")) {
				t.Fatalf("a broken line: %q", line)
			}
		}
		e.NotModified(req)
		e.RangeApplies(req)
		e.Tags(func(string) bool { return true })
		if s, ok := req.Place(res); ok && (s.Start < 0 || s.Length != length || s.Whole >= 0 && s.Whole < s.Start+s.Length) {
			t.Fatalf("%+v of %d bytes", s, length)
		}
		if next := rules.Freshened(e, req, responseOf(304, response)); next != nil && next.Status != e.Status {
			t.Fatalf("%+v", next)
		}
	})
}

// A path has one form, whatever form it came in, and what that is not part of
// stays.
func FuzzPath(f *testing.F) {
	f.Add("/a%2fb%3b;c%7E")
	f.Fuzz(func(t *testing.T, path string) {
		for rest := path; ; {
			_, after, some := strings.Cut(rest, "%")
			if !some {
				break
			}
			if len(after) < 2 {
				return // routing refuses it
			}
			_, ok1 := unhex(after[0])
			_, ok2 := unhex(after[1])
			if !ok1 || !ok2 || after[:2] == "25" {
				return
			}
			rest = after[2:]
		}
		once := AppendPath(nil, []byte(path))
		if twice := AppendPath(nil, once); string(twice) != string(once) {
			t.Fatalf("%q became %q and then %q", path, once, twice)
		}
	})
}
