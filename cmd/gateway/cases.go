package main

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/sluice-edge/sluice/internal/config"
	"github.com/sluice-edge/sluice/proxy"
)

// A Cases file says what a configuration should do with requests:
//
//	cases:
//	  - name: orders of v2 go to the canary
//	    request: {method: GET, url: "http://api.example.com/api/orders?v=2", headers: {X-Canary: "1"}, ip: 203.0.113.9}
//	    want: {route: orders, backend: orders, upstream_target: /orders?v=2}
//	  - name: nothing else takes DELETE
//	    request: {method: DELETE, url: /api/orders}
//	    want: {status: 405, headers: {Allow: "GET, HEAD, POST"}}
//
// Nothing is sent. A status and response headers are known where the gateway
// itself answers: its refusals, and backends other than http.
type Cases struct {
	Cases []Case `yaml:"cases" required:"true" doc:"requests and what should become of them"`
}

// A Case is one request and what should become of it.
type Case struct {
	Name    string      `yaml:"name" doc:"shown where it fails"`
	Request CaseRequest `yaml:"request" required:"true" doc:"the request; a URL alone is a short form"`
	Want    CaseWant    `yaml:"want" required:"true" doc:"what should become of it; only what is given is compared"`
}

// A CaseRequest is the request of a case.
type CaseRequest struct {
	Method  string            `yaml:"method" default:"GET" doc:"GET where nothing is said"`
	URL     string            `yaml:"url" required:"true" doc:"http://host/path?query, or a path"`
	Headers map[string]string `yaml:"headers" doc:"name to value"`
	IP      string            `yaml:"ip" doc:"the other end of the connection; 127.0.0.1 where nothing is said"`
}

// UnmarshalText reads the short form, a URL alone.
func (r *CaseRequest) UnmarshalText(text []byte) error {
	*r = CaseRequest{URL: string(text)}
	return nil
}

// A CaseWant is what should become of a request.
type CaseWant struct {
	Route          string            `yaml:"route" doc:"name of the route that takes it"`
	Backend        string            `yaml:"backend" doc:"name of the backend that answers"`
	Status         int               `yaml:"status" doc:"of the response, where the gateway itself answers" min:"100" max:"599"`
	Headers        map[string]string `yaml:"headers" doc:"of the response, where the gateway itself answers; empty: absent"`
	Path           string            `yaml:"path" doc:"the normal form of the path"`
	UpstreamTarget string            `yaml:"upstream_target" doc:"path and query that the target would be asked for"`
	UpstreamHost   string            `yaml:"upstream_host" doc:"Host that the target would see"`
}

// test is `gateway test`.
func (p *program) test(args []string) error {
	fs := flags("test")
	path := configFlag(fs)
	rest, err := parse(fs, args, "a file of cases")
	if err != nil {
		return err
	}
	name, err := path()
	if err != nil {
		return err
	}
	px, s, err := p.examine(name)
	if err != nil {
		return err
	}
	defer s.drop(nil)
	src, err := readSource(rest[0])
	if err != nil {
		return err
	}
	cases, doc, err := readCases(src, p.env)
	if err != nil {
		return err
	}
	return p.compareAll(px, s, cases, doc)
}

// readCases reads a file of cases. The error holds every fault.
func readCases(src source, env func(string) (string, bool)) ([]Case, *config.Document, error) {
	doc, err := config.Parse(src.name, src.data, env)
	if err != nil {
		return nil, nil, err
	}
	var file Cases
	doc.Decode(&file)
	for i := range file.Cases {
		c := &file.Cases[i]
		if c.Request.Method == "" {
			c.Request.Method = "GET"
		}
		if _, err := c.probe(); err != nil {
			doc.Fault(config.Join("cases", i, "request"), err)
		}
		if reflect.ValueOf(c.Want).IsZero() {
			doc.Fault(config.Join("cases", i, "want"), errors.New("says nothing that could be compared"))
		}
	}
	return file.Cases, doc, doc.Err()
}

// compareAll prints each difference with its place, and how many cases differ.
func (p *program) compareAll(px *proxy.Proxy, s *setup, cases []Case, doc *config.Document) error {
	differ, routes := 0, s.gen.Routes()
	for i, c := range cases {
		probe, _ := c.probe() // checked when it was read
		e := px.Explain(s.gen, probe)
		diffs := c.Want.compare(e, split(e, routes))
		if len(diffs) > 0 {
			differ++
		}
		for _, d := range diffs {
			doc.Fault(config.Join("cases", i, "want")+"."+d.key, fmt.Errorf("%s%s", c.title(), d.text))
		}
	}
	if differ == 0 {
		fmt.Fprintf(p.out, "ok: %s\n", count(len(cases), "case"))
		return nil
	}
	for _, line := range faultLines(doc.Err()) {
		fmt.Fprintln(p.out, line)
	}
	fmt.Fprintf(p.out, "failed: %d of %s\n", differ, count(len(cases), "case"))
	return errReported
}

func (c *Case) title() string {
	if c.Name == "" {
		return ""
	}
	return c.Name + ": "
}

// probe is the case's request.
func (c *Case) probe() (proxy.Probe, error) {
	probe := proxy.Probe{Method: c.Request.Method, URL: c.Request.URL}
	for _, name := range slices.Sorted(maps.Keys(c.Request.Headers)) {
		probe.Header = append(probe.Header, [2]string{name, c.Request.Headers[name]})
	}
	err := checkProbe(&probe, c.Request.IP)
	return probe, err
}

// A difference is one key of want that does not hold.
type difference struct{ key, text string }

// compare says what is not as wanted. Of a split, any backend is right.
func (w *CaseWant) compare(e proxy.Explanation, shares []proxy.Share) []difference {
	var diffs []difference
	compare := func(key, want, got string) {
		if want != "" && want != got {
			diffs = append(diffs, difference{key, fmt.Sprintf("want %q, got %s", want, orNothing(got, e))})
		}
	}
	compare("route", w.Route, e.Route)
	if !slices.ContainsFunc(shares, func(s proxy.Share) bool { return s.Backend == w.Backend && s.Weight > 0 }) {
		compare("backend", w.Backend, e.Backend)
	}
	compare("path", w.Path, e.Path)
	compare("upstream_target", w.UpstreamTarget, e.Upstream.Target)
	compare("upstream_host", w.UpstreamHost, e.Upstream.Host)
	if w.Status != 0 && w.Status != e.Status {
		diffs = append(diffs, difference{"status", fmt.Sprintf("want %d, got %s", w.Status, outcome(e))})
	}
	for _, name := range slices.Sorted(maps.Keys(w.Headers)) {
		want, got := w.Headers[name], field(e.Header, name)
		if want != got {
			diffs = append(diffs, difference{config.Join("headers", name), fmt.Sprintf("want %q, got %s", want, orNothing(got, e))})
		}
	}
	return diffs
}

// orNothing is a value, or in its place what happened instead.
func orNothing(got string, e proxy.Explanation) string {
	if got == "" {
		return "nothing (" + outcome(e) + ")"
	}
	return fmt.Sprintf("%q", got)
}

// field looks up a header field by its name, in any case.
func field(header map[string]string, name string) string {
	for n, v := range header {
		if strings.EqualFold(n, name) {
			return v
		}
	}
	return ""
}
