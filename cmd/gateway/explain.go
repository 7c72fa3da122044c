package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-edge/sluice/internal/config"
	"github.com/sluice-edge/sluice/internal/listen"
	"github.com/sluice-edge/sluice/proxy"
)

// explain is `gateway explain`.
func (p *program) explain(args []string) error {
	fs := flags("explain")
	path := configFlag(fs)
	method := fs.String("X", "GET", "")
	ip := fs.String("ip", "", "")
	var probe proxy.Probe
	fs.Func("H", "", func(text string) error {
		field, err := parseField(text)
		probe.Header = append(probe.Header, field)
		return err
	})
	rest, err := parse(fs, args, "a URL")
	if err != nil {
		return err
	}
	name, err := path()
	if err != nil {
		return err
	}
	probe.Method, probe.URL = *method, rest[0]
	if err := checkProbe(&probe, *ip); err != nil {
		return usageError("explain: " + err.Error())
	}
	px, s, err := p.examine(name)
	if err != nil {
		return err
	}
	defer s.drop(links{})
	printExplanation(p.out, probe, px.Explain(s.gen, probe), s.gen.Routes())
	return nil
}

// parseField reads 'Name: value'.
func parseField(text string) ([2]string, error) {
	name, value, found := strings.Cut(text, ":")
	if !found || name == "" || strings.ContainsAny(name, " \t") {
		return [2]string{}, errors.New("a header is written as 'Name: value'")
	}
	return [2]string{name, strings.TrimSpace(value)}, nil
}

// checkProbe holds a probe to what could come over the wire, and fills in the
// client's address. Its errors name the key of a case that they belong to.
func checkProbe(probe *proxy.Probe, ip string) error {
	if strings.ContainsAny(probe.Method, " \t\r\n") || probe.Method == "" {
		return config.At("method", fmt.Errorf("%q is no method", probe.Method))
	}
	if err := checkURL(probe.URL); err != nil {
		return config.At("url", err)
	}
	if ip == "" {
		return nil
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return config.At("ip", fmt.Errorf("%q is no IP address", ip))
	}
	probe.ClientIP = addr
	return nil
}

func checkURL(text string) error {
	switch scheme, rest, found := strings.Cut(text, "://"); {
	case strings.ContainsAny(text, " \t\r\n"):
		return fmt.Errorf("%q holds white space; write %%20", text)
	case strings.HasPrefix(text, "/"), text == "*":
		return nil
	case found && (scheme == "http" || scheme == "https") && rest != "" && rest[0] != '/':
		if host := rest[:strings.IndexAny(rest+"/", "/?#")]; !listen.IsAuthority(host) {
			return fmt.Errorf("%q is no host, with a port or without, that a request may name", host)
		}
		return nil
	}
	return fmt.Errorf("%q is neither http://host/path nor /path", text)
}

// A table is text in two columns.
type table struct{ *tabwriter.Writer }

func newTable(out io.Writer) table { return table{tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)} }

func (t table) line(name, format string, args ...any) {
	fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
}

// printExplanation writes what a person wants to know, the outcome first.
func printExplanation(out io.Writer, probe proxy.Probe, e proxy.Explanation, routes []proxy.RouteInfo) {
	t := newTable(out)
	t.line("request", "%s %s from %s", probe.Method, probe.URL, e.Client)
	t.line("outcome", "%s", outcome(e))
	if e.Path != "" {
		t.line("path", "%s", e.Path)
	}
	if e.Route != "" {
		t.line("route", "%s", e.Route)
		t.line("limits", "body %s, timeout %s", bytesText(e.MaxBody), timeText(e.Timeout))
	}
	for _, l := range e.Limits {
		t.line("limit", "%s", limitText(l))
	}
	if e.Mirror != "" {
		t.line("mirror", "%s", e.Mirror)
	}
	if e.Cache != "" {
		t.line("cache", "%s", e.Cache)
		for _, part := range e.Key {
			t.line("", "%s", part)
		}
	}
	for _, s := range split(e, routes) {
		t.line("split", "%s, weight %d", s.Backend, s.Weight)
	}
	if e.Backend != "" {
		t.line("backend", "%s (%s)", e.Backend, e.Kind)
	}
	t.printUpstream(e)
	t.printAnswer(e)
	t.Flush()
	if e.Path != "" { // else no route was looked for
		printRules(out, e, routes)
	}
}

// limitText says how a limit would count the request.
func limitText(l proxy.LimitProbe) string {
	if l.Exempt {
		return l.Name + ": the request is exempt"
	}
	text := fmt.Sprintf("%s: %s, by %s", l.Name, l.Rate, l.By)
	if l.Tier != "" {
		text += "; tier " + l.Tier
	}
	text += "; key: " + l.Key
	if l.Note != "" {
		text += ", " + l.Note
	}
	return text
}

// split is what the winning route splits among, if it does; e has one of them.
func split(e proxy.Explanation, routes []proxy.RouteInfo) []proxy.Share {
	for _, r := range e.Rules {
		if r.Taken {
			return routes[r.Route].Split
		}
	}
	return nil
}

// printUpstream writes what the target would get.
func (t table) printUpstream(e proxy.Explanation) {
	if e.Why != "" {
		t.line("balance", "%s", e.Why)
	}
	if e.Target == "" {
		return
	}
	t.line("target", "%s", e.Target)
	t.line("sends", "%s %s", e.Upstream.Method, e.Upstream.Target)
	for _, f := range e.Upstream.Header {
		t.line("", "%s: %s", f[0], f[1])
	}
	if to := e.Timeouts; to != nil {
		t.line("timeouts", "connect %s, response_header %s, idle %s, request %s",
			timeText(to.Connect), timeText(to.ResponseHeader), timeText(to.Idle), timeText(to.Request))
	}
}

// printAnswer writes the header of a response that asks no target.
func (t table) printAnswer(e proxy.Explanation) {
	label := "answers"
	for _, name := range slices.Sorted(maps.Keys(e.Header)) {
		if name == "Date" || name == "X-Request-Id" { // they say nothing about the request
			continue
		}
		t.line(label, "%s: %s", name, e.Header[name])
		label = ""
	}
}

func outcome(e proxy.Explanation) string {
	switch {
	case e.Reason != "":
		return fmt.Sprintf("%d %s: %s", e.Status, http.StatusText(e.Status), e.Reason)
	case e.Status != 0:
		return fmt.Sprintf("%d %s, from the backend %s", e.Status, http.StatusText(e.Status), e.Backend)
	}
	if e.Target == "" {
		return "503 Service Unavailable: no target can take the request"
	}
	return "forwarded to " + e.Target
}

// printRules writes why each route did not win, in order of precedence.
func printRules(out io.Writer, e proxy.Explanation, routes []proxy.RouteInfo) {
	fmt.Fprintln(out, "\nroutes, in order of precedence")
	t := newTable(out)
	for _, r := range e.Rules {
		mark, reason := " ", r.Reason
		if r.Taken {
			mark, reason = ">", "takes the request"
		}
		t.line(mark+" "+routes[r.Route].Name, "%s", reason)
	}
	t.Flush()
}

// bytesText is a size as it would be written in the file.
func bytesText(n int64) string {
	if n == 0 {
		return "unbounded"
	}
	for i, unit := range []string{"GiB", "MiB", "KiB"} {
		if size := int64(1) << (30 - 10*i); n%size == 0 {
			return fmt.Sprintf("%d%s", n/size, unit)
		}
	}
	return fmt.Sprintf("%dB", n)
}

func timeText(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
