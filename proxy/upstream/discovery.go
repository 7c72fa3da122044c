package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A DiscoveryConfig says where a backend's targets are looked up. The zero
// value: nowhere.
type DiscoveryConfig struct {
	DNS     string        `yaml:"dns" doc:"name:port, or with http:// or https:// before it: each address of the name is a target; _service._proto.name or srv:name: each SRV record, with its port, weight and priority"`
	Refresh time.Duration `yaml:"refresh" doc:"look again after this long, or after the answer's TTL where that is shorter" default:"10s" min:"100ms"`
	File    string        `yaml:"file" doc:"a YAML list of targets, written as under targets; looked at again whenever it changes"`
}

// SetDefaults fills in what a mapping leaves out.
func (c *DiscoveryConfig) SetDefaults() { c.Refresh = defaultRefresh }

const (
	defaultRefresh = 10 * time.Second
	leastRefresh   = 100 * time.Millisecond
	leastTTL       = time.Second // a TTL of 0 is no reason to ask without pause
)

// Enabled reports whether there is anything to look up.
func (c DiscoveryConfig) Enabled() bool { return c.DNS != "" || c.File != "" }

// Validate says what a config cannot mean. The zero value is valid.
func (c DiscoveryConfig) Validate() error {
	switch {
	case c.Refresh != 0 && c.Refresh < leastRefresh:
		return fmt.Errorf("refresh is %v; the least is %v", c.Refresh, leastRefresh)
	case c.DNS != "" && c.File != "":
		return errors.New("targets come from dns or from file, not from both")
	case c.DNS != "":
		_, err := parseService(c.DNS)
		return err
	}
	return nil
}

// A Found is one target that a Discovery has found.
type Found struct {
	URL      string // as in Config
	Host     string // what requests name as their host, where URL has an address for it; empty: the host of URL
	Weight   int    // from 1 to 1000
	Priority int    // 0 before 1
}

// ServerName is the name for SNI and to verify a certificate by; empty: the
// host of URL.
func (f Found) ServerName() string {
	if host, _, err := net.SplitHostPort(f.Host); err == nil {
		return host
	}
	return f.Host
}

// DiscoveryState is what a Discovery knows of itself.
type DiscoveryState struct {
	Targets int       // in force
	Failing bool      // the last look failed, or found nothing; the targets are those of an earlier one
	Fault   string    // why
	Looked  time.Time // when the targets were last confirmed; zero: never
	Changed time.Time // when they last changed
}

// A Discovery looks up the targets of one backend, again and again.
type Discovery struct {
	cfg     DiscoveryConfig
	service service
	system  system
	log     *slog.Logger
	found   func([]Found)

	records map[question]answer // the last good ones
	targets []Found             // told last, or known before

	mu    sync.Mutex
	state DiscoveryState
}

// NewDiscovery returns a discovery that calls found, from the goroutine of Run,
// with all targets in a fixed order whenever they have changed from those known.
// They are never none: a look that fails or finds nothing leaves the last ones in
// force, which the log says once when it begins and once when it is over.
func NewDiscovery(cfg DiscoveryConfig, log *slog.Logger, known []Found, found func([]Found)) (*Discovery, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if !cfg.Enabled() {
		return nil, errors.New("discovery: neither dns nor file is set")
	}
	if cfg.Refresh == 0 {
		cfg.Refresh = defaultRefresh
	}
	d := &Discovery{cfg: cfg, log: log, targets: known, found: found, system: system{resolv: "/etc/resolv.conf", hosts: "/etc/hosts"}}
	if cfg.DNS != "" {
		d.service, _ = parseService(cfg.DNS) // valid
	}
	return d, nil
}

// Run looks until ctx is done.
func (d *Discovery) Run(ctx context.Context) error {
	if d.cfg.File != "" {
		return d.watch(ctx)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		targets, ttl, err := d.resolve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		d.take(targets, err)
		if err != nil && len(d.targets) == 0 {
			ttl = leastTTL // there is nothing to go by yet
		}
		timer.Reset(nextLook(ttl, d.cfg.Refresh))
	}
}

// nextLook is when to look again after an answer that may be kept for ttl.
func nextLook(ttl, refresh time.Duration) time.Duration {
	return min(max(ttl, leastTTL), refresh)
}

// State may be called at any time.
func (d *Discovery) State() DiscoveryState {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// take puts in force what a look has found, with the error that it came with
// or instead of it.
func (d *Discovery) take(targets []Found, err error) {
	if err == nil && len(targets) == 0 {
		err = errors.New("no targets")
	}
	slices.SortFunc(targets, func(a, b Found) int {
		return cmp.Or(a.Priority-b.Priority, cmp.Compare(a.URL, b.URL), cmp.Compare(a.Host, b.Host))
	})
	targets = slices.Compact(targets)
	changed := len(targets) > 0 && !slices.Equal(targets, d.targets)
	if changed {
		d.targets = targets
	}
	d.note(err, changed)
	if changed {
		d.found(slices.Clone(targets))
	}
}

// note keeps the state, and logs when it is another.
func (d *Discovery) note(err error, changed bool) {
	d.mu.Lock()
	before := d.state
	now := time.Now()
	d.state.Targets = len(d.targets)
	d.state.Failing, d.state.Fault = err != nil, ""
	if changed {
		d.state.Changed = now
	}
	if err != nil {
		d.state.Fault = err.Error()
	} else {
		d.state.Looked = now
	}
	d.mu.Unlock()

	source := cmp.Or(d.cfg.DNS, d.cfg.File)
	switch {
	case err != nil && !before.Failing, err != nil && d.cfg.File != "" && before.Fault != err.Error():
		d.log.Warn("discovery fails; the last targets stay", "source", source, "targets", len(d.targets), "error", err)
	case err == nil && before.Failing:
		d.log.Info("discovery works again", "source", source, "targets", len(d.targets))
	case changed:
		d.log.Info("discovery found other targets", "source", source, "targets", len(d.targets))
	}
}

// A service is what `dns` names.
type service struct {
	scheme string
	name   string // without a port
	port   string // empty for SRV
}

func parseService(s string) (service, error) {
	sv := service{scheme: "http"}
	rest, srv := strings.CutPrefix(s, "srv:")
	if !srv && strings.Contains(s, "://") {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
			return sv, fmt.Errorf("dns %q: want name:port, http://name:port, _service._proto.name or srv:name", s)
		}
		sv.scheme, rest = u.Scheme, u.Host
		if u.Port() == "" && !strings.HasPrefix(rest, "_") {
			rest = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		}
	}
	if srv = srv || strings.HasPrefix(rest, "_"); srv {
		sv.name = rest
		if strings.Contains(rest, ":") {
			return sv, fmt.Errorf("dns %q: the port of an SRV name is in its records", s)
		}
	} else {
		var err error
		if sv.name, sv.port, err = net.SplitHostPort(rest); err != nil {
			return sv, fmt.Errorf("dns %q: want name:port", s)
		}
		if _, err := newTarget(Config{URL: "http://" + net.JoinHostPort("localhost", sv.port)}); err != nil || sv.port == "" {
			return sv, fmt.Errorf("dns %q: port is not in 1 to 65535", s)
		}
	}
	if _, err := netip.ParseAddr(sv.name); err == nil {
		return sv, fmt.Errorf("dns %q: an address needs no discovery; write it under targets", s)
	}
	if !validName(sv.name) {
		return sv, fmt.Errorf("dns %q: %q is not a domain name", s, sv.name)
	}
	return sv, nil
}

// validName reports whether s can be asked for (RFC 1035, section 2.3.4, with
// the underscore of RFC 2782).
func validName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
			return false
		}
	}
	return true
}

// resolve looks the service up once. Where a part fails whose last answer is
// known, that one counts, beside the error.
func (d *Discovery) resolve(ctx context.Context) ([]Found, time.Duration, error) {
	l := &lookup{ctx: ctx, resolver: d.system.read(), old: d.records, records: map[question]answer{}, ttl: d.cfg.Refresh}
	var targets []Found
	if d.service.port != "" {
		for _, ip := range l.addresses(d.service.name) {
			targets = append(targets, d.service.target(ip, d.service.name, d.service.port))
		}
	} else {
		targets = d.service.spread(l, l.find(question{d.service.name, dnsmessage.TypeSRV}).srv)
	}
	d.records = l.records
	err := errors.Join(l.faults...)
	if err == nil && len(targets) == 0 {
		err = fmt.Errorf("%s has no addresses", d.service.name)
	}
	return targets, l.ttl, err
}

func (s service) target(ip netip.Addr, name, port string) Found {
	return Found{
		URL:  s.scheme + "://" + net.JoinHostPort(ip.String(), port),
		Host: net.JoinHostPort(strings.TrimSuffix(name, "."), port), Weight: 1,
	}
}

// spread makes targets of SRV records (RFC 2782): their priorities become 0, 1
// and so on, and their weights, shared among the addresses of a name, keep
// their proportions within the bounds of ours.
func (s service) spread(l *lookup, records []dnsmessage.SRVResource) []Found {
	var priorities []uint16
	shares, most := 1, 1 // what a weight is divided into; the largest weight
	for _, r := range records {
		priorities = append(priorities, r.Priority)
		most = max(most, int(r.Weight))
		if n := len(l.addresses(r.Target.String())); n > 1 && shares%n != 0 && shares*n < 1000 {
			shares *= n
		}
	}
	slices.Sort(priorities)
	priorities = slices.Compact(priorities)
	scale := min(float64(shares), 1000/float64(most))
	var targets []Found
	for _, r := range records {
		name := r.Target.String()
		ips := l.addresses(name)
		for _, ip := range ips {
			f := s.target(ip, name, strconv.Itoa(int(r.Port)))
			f.Weight = max(1, int(float64(r.Weight)*scale/float64(len(ips))+0.5))
			f.Priority, _ = slices.BinarySearch(priorities, r.Priority)
			targets = append(targets, f)
		}
	}
	slices.SortFunc(targets, func(a, b Found) int { return cmp.Or(cmp.Compare(a.URL, b.URL), a.Priority-b.Priority) })
	return slices.CompactFunc(targets, func(a, b Found) bool { return a.URL == b.URL })
}
