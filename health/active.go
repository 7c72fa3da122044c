package health

import (
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Active configures the checks of one backend's targets.
type Active struct {
	Kind           string        `yaml:"kind" enum:"http|tcp|grpc" default:"http" doc:"http: GET path; tcp: connect; grpc: grpc.health.v1"`
	Path           string        `yaml:"path" default:"/health" doc:"what http asks for"`
	Interval       time.Duration `yaml:"interval" default:"5s" doc:"between the starts of two checks of a target, give or take a tenth"`
	Timeout        time.Duration `yaml:"timeout" default:"1s" doc:"for a whole check, connecting included; where it is longer than interval, the next begins when it is over"`
	HealthyAfter   int           `yaml:"healthy_after" min:"1" max:"1000" default:"2" doc:"good checks in a row"`
	UnhealthyAfter int           `yaml:"unhealthy_after" min:"1" max:"1000" default:"3" doc:"bad checks in a row; the very first check of a target decides alone"`
	Expect         []string      `yaml:"expect" default:"[200-299]" doc:"statuses and ranges of them that are good (http)"`
	Body           string        `yaml:"body" doc:"what the first 64 KiB of the body must hold, or re: and a regular expression (http); empty: anything"`
	Service        string        `yaml:"service" doc:"the service that grpc asks about; empty: the server as a whole"`
	Port           int           `yaml:"port" min:"0" max:"65535" doc:"instead of the target's; 0: the target's"`
	Host           string        `yaml:"host" doc:"the Host (http) or :authority (grpc) to send; empty: the target's"`
}

// SetDefaults sets what checks have where nothing is said.
func (a *Active) SetDefaults() {
	*a = Active{
		Kind: "http", Path: "/health", Interval: 5 * time.Second, Timeout: time.Second,
		HealthyAfter: 2, UnhealthyAfter: 3, Expect: []string{"200-299"},
	}
}

// Validate returns every fault, joined, each a *FieldError.
func (a Active) Validate() error {
	_, err := a.compile()
	return err
}

// A plan is an Active that is ready for use.
type plan struct {
	Active
	expect statuses
	body   matcher
}

func (a Active) compile() (*plan, error) {
	var f faults
	p := &plan{Active: a}
	f.unless(a.Kind == "http" || a.Kind == "tcp" || a.Kind == "grpc", "kind", "%q is not http, tcp or grpc", a.Kind)
	f.unless(a.Kind != "http" || goodPath(a.Path), "path", "%q is not a path: want a slash, and then no space, # or byte that is not visible ASCII, and %% with two hex digits only", a.Path)
	f.unless(a.Interval >= 10*time.Millisecond && a.Interval <= 24*time.Hour, "interval", "%v is not from 10ms to 24h", a.Interval)
	f.unless(a.Timeout > 0, "timeout", "%v is not above 0", a.Timeout)
	f.unless(a.Timeout <= 24*time.Hour, "timeout", "%v is not at most 24h", a.Timeout)
	f.unless(a.HealthyAfter >= 1 && a.HealthyAfter <= 1000, "healthy_after", "%d is not from 1 to 1000", a.HealthyAfter)
	f.unless(a.UnhealthyAfter >= 1 && a.UnhealthyAfter <= 1000, "unhealthy_after", "%d is not from 1 to 1000", a.UnhealthyAfter)
	f.unless(a.Port >= 0 && a.Port <= 65535, "port", "%d is not from 0 to 65535", a.Port)
	f.unless(goodHost(a.Host), "host", "%q is not a host name or address, with or without a port", a.Host)
	f.unless(a.Service == "" || a.Kind == "grpc", "service", "is for kind grpc only")
	f.unless(len(a.Service) <= 1024, "service", "is longer than 1024 bytes")
	f.unless(a.Body == "" || a.Kind == "http", "body", "is for kind http only")
	p.expect = parseStatuses(a.Expect, a.Kind, &f)
	p.body = parseBody(a.Body, &f)
	return p, f.join()
}

func goodPath(path string) bool {
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '#' {
			return false
		}
	}
	_, err := url.ParseRequestURI(path)
	return err == nil && strings.HasPrefix(path, "/")
}

// goodHost accepts what may stand in a Host field as far as we send it (RFC
// 9110, section 7.2), and the empty string.
func goodHost(host string) bool {
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return false
		}
		name = h
	} else if inner, ok := strings.CutPrefix(host, "["); ok {
		name, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return false
		}
	}
	if strings.Contains(name, ":") {
		return host[0] == '[' && net.ParseIP(name) != nil
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"#%,/<>?@[\]^{|}`+"`", c) >= 0 {
			return false
		}
	}
	return name != "" || host == ""
}
