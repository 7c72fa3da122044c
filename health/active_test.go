package health

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"
)

func defaultActive() (a Active) {
	a.SetDefaults()
	return a
}

func TestActiveFaults(t *testing.T) {
	for _, c := range []struct {
		edit func(*Active)
		want []string
	}{
		{func(*Active) {}, nil},
		{func(a *Active) { a.Kind = "ftp" }, []string{"kind"}},
		{func(a *Active) { a.Path = "health" }, []string{"path"}},
		{func(a *Active) { a.Path = "/a b" }, []string{"path"}},
		{func(a *Active) { a.Path = "/a\r\nX: y" }, []string{"path"}},
		{func(a *Active) { a.Path = "/a#b" }, []string{"path"}},
		{func(a *Active) { a.Path = "/%zz" }, []string{"path"}},
		{func(a *Active) { a.Path = "/a?b=%zz" }, nil},
		{func(a *Active) { a.Path = ""; a.Kind = "tcp" }, nil},
		{func(a *Active) { a.Interval = 0 }, []string{"interval"}},
		{func(a *Active) { a.Timeout = 0 }, []string{"timeout"}},
		{func(a *Active) { a.Timeout = -1 }, []string{"timeout"}},
		{func(a *Active) { a.Timeout = 25 * time.Hour }, []string{"timeout"}},
		{func(a *Active) { a.HealthyAfter = 0 }, []string{"healthy_after"}},
		{func(a *Active) { a.UnhealthyAfter = -3 }, []string{"unhealthy_after"}},
		{func(a *Active) { a.Expect = nil }, []string{"expect"}},
		{func(a *Active) { a.Expect = nil; a.Kind = "grpc" }, nil},
		{func(a *Active) { a.Expect = []string{"200", "99", "2xx", "301-302", "299-200"} }, []string{"expect[1]", "expect[2]", "expect[4]"}},
		{func(a *Active) { a.Body = "re:(" }, []string{"body"}},
		{func(a *Active) { a.Body = "ok"; a.Kind = "tcp" }, []string{"body"}},
		{func(a *Active) { a.Service = "a" }, []string{"service"}},
		{func(a *Active) { a.Service = "a"; a.Kind = "grpc" }, nil},
		{func(a *Active) { a.Port = 65536 }, []string{"port"}},
		{func(a *Active) { a.Host = "a b" }, []string{"host"}},
		{func(a *Active) { a.Host = "a@b" }, []string{"host"}},
		{func(a *Active) { a.Host = "a:0" }, []string{"host"}},
		{func(a *Active) { a.Host = ":80" }, []string{"host"}},
		{func(a *Active) { a.Host = "[::1" }, []string{"host"}},
		{func(a *Active) { a.Host = "::1" }, []string{"host"}},
		{func(a *Active) { a.Host = "[::1]:80" }, nil},
		{func(a *Active) { a.Host = "[::1]" }, nil},
		{func(a *Active) { a.Host = "health.example.com:8080" }, nil},
		{func(a *Active) { *a = Active{} }, []string{"kind", "interval", "timeout", "healthy_after", "unhealthy_after"}},
	} {
		a := defaultActive()
		c.edit(&a)
		t.Run(fmt.Sprintf("%+v", a), func(t *testing.T) { wantFields(t, a.Validate(), c.want...) })
	}
}

// TestDefaults compares the tags, which the schema shows, with SetDefaults.
func TestDefaults(t *testing.T) {
	a, p, b := defaultActive(), defaultPassive(), defaultBreaker()
	for _, v := range []any{a, p, b} {
		s := reflect.ValueOf(v)
		for i := range s.NumField() {
			tag, value := s.Type().Field(i).Tag.Get("default"), s.Field(i)
			got := fmt.Sprint(value.Interface())
			if s.Type().Field(i).Tag.Get("unit") == "percent" {
				got = fmt.Sprintf("%v%%", value.Float()*100)
			}
			if value.IsZero() {
				got = ""
			}
			if got != tag {
				t.Errorf("%s.%s: the default is %q, its tag says %q", s.Type(), s.Type().Field(i).Name, got, tag)
			}
		}
	}
}

func TestNewTargetFaults(t *testing.T) {
	for _, url := range []string{"", "a:80", "ftp://a", "http://", "http://u@a", "http://a/x", "http://a?x", "http://a:0", "http://a:99999", "unix:x", "http://a b/"} {
		c, _ := NewChecker(Config{})
		g, err := c.Group("b", defaultActive(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := g.Add(url); err == nil {
			t.Errorf("%q can be added", url)
		}
	}
	c, _ := NewChecker(Config{})
	a := defaultActive()
	a.Port = 81
	g, _ := c.Group("b", a, nil)
	_, err := g.Add("unix:/tmp/x")
	if f, ok := err.(*FieldError); !ok || f.Field() != "port" {
		t.Errorf("a port for a socket: %v", err)
	}
	if _, err := c.Group("b", a, nil); err == nil {
		t.Error("two groups of one name")
	}
	if _, err := c.Group("c", Active{}, nil); err == nil {
		t.Error("Group takes a bad Active")
	}
	if _, err := NewChecker(Config{Workers: -1}); err == nil {
		t.Error("NewChecker takes -1 workers")
	}
}

func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		url                string
		port               int
		address, authority string
		name               string
	}{
		{"http://a", 0, "a:80", "a", ""},
		{"http://a:8080/", 0, "a:8080", "a:8080", ""},
		{"https://a", 0, "a:443", "a", "a"},
		{"https://[::1]:8443", 0, "[::1]:8443", "[::1]:8443", "::1"},
		{"http://a:8080", 81, "a:81", "a:81", ""},
		{"http://[::1]", 81, "[::1]:81", "[::1]:81", ""},
		{"unix:/run/x", 0, "/run/x", "localhost", ""},
	} {
		a := defaultActive()
		a.Port = c.port
		p, err := a.compile()
		if err != nil {
			t.Fatal(err)
		}
		probe, err := newProbe(p, newTLS(), nil, c.url)
		if err != nil {
			t.Fatal(err)
		}
		at, err := newPlace(p, newTLS(), c.url)
		if err != nil || at.address != c.address || at.authority != c.authority {
			t.Errorf("%s: %+v, %v", c.url, at, err)
		}
		if c.name != "" && at.tls.ServerName != c.name || (c.name == "") != (at.tls == nil) {
			t.Errorf("%s: TLS %+v", c.url, at.tls)
		}
		if r := probe.(*httpProbe).request; r.Host != c.authority {
			t.Errorf("%s: Host %s", c.url, r.Host)
		}
	}
}

// FuzzExpect holds the parser to what it accepts: three digits, twice at most,
// in order.
func FuzzExpect(f *testing.F) {
	for _, s := range []string{"200", "200-299", "299-200", "-200", "200-", "+20", "2xx", "0200", "٢٠٠", "200 - 299", "199", "600", "200-299-300", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		lo, hi, err := parseRange(s)
		spelled := []string{fmt.Sprintf("%d-%d", lo, hi)}
		if lo == hi {
			spelled = append(spelled, fmt.Sprint(lo))
		}
		switch {
		case err != nil && (lo != 0 || hi != 0):
			t.Errorf("%q: %d, %d, %v", s, lo, hi, err)
		case err == nil && (lo < 200 || hi > 599 || lo > hi || !slices.Contains(spelled, s)):
			t.Errorf("%q: %d-%d", s, lo, hi)
		}
	})
}

func TestStatuses(t *testing.T) {
	var f faults
	s := parseStatuses([]string{"200-204", "301"}, "http", &f)
	for status, want := range map[int]bool{199: false, 200: true, 204: true, 205: false, 300: false, 301: true, 302: false} {
		if s.has(status) != want {
			t.Errorf("%d: %v", status, !want)
		}
	}
}
