package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

type question struct {
	name string
	kind dnsmessage.Type
}

// An answer is what one question got. It may be empty.
type answer struct {
	ips []netip.Addr
	srv []dnsmessage.SRVResource
	ttl time.Duration
}

// A lookup is one look at a service: several questions.
type lookup struct {
	ctx      context.Context
	resolver resolver
	old      map[question]answer // of the last look
	records  map[question]answer // of this one
	ttl      time.Duration       // the shortest that was met
	faults   []error
}

// addresses asks for both families at once. One that fails keeps its last
// answer, the other one counts all the same.
func (l *lookup) addresses(name string) []netip.Addr {
	if name == "." { // decidedly nowhere (RFC 2782)
		return nil
	}
	if ips := l.resolver.hosts[strings.ToLower(strings.TrimSuffix(name, "."))]; len(ips) > 0 {
		return ips
	}
	four, six := question{name, dnsmessage.TypeA}, question{name, dnsmessage.TypeAAAA}
	if _, ok := l.records[four]; !ok {
		var a answer
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { a, err = l.resolver.search(l.ctx, six) })
		l.find(four)
		wg.Wait()
		l.keep(six, a, err)
	}
	return slices.Concat(l.records[four].ips, l.records[six].ips)
}

func (l *lookup) find(q question) answer {
	a, err := l.resolver.search(l.ctx, q)
	return l.keep(q, a, err)
}

// keep notes an answer, or in place of a failed one the last good one.
func (l *lookup) keep(q question, a answer, err error) answer {
	if err != nil {
		l.faults = append(l.faults, err)
		a = l.old[q]
	} else if len(a.ips)+len(a.srv) > 0 {
		l.ttl = min(l.ttl, a.ttl)
	}
	l.records[q] = a
	return a
}

// A system says where names are resolved.
type system struct {
	resolv, hosts string   // files
	servers       []string // instead of those of resolv, host:port
	timeout       time.Duration
}

// A resolver asks DNS servers, since net.Resolver does not tell the TTL.
type resolver struct {
	servers  []string
	domains  []string // to search in
	ndots    int
	attempts int
	timeout  time.Duration
	hosts    map[string][]netip.Addr // names are lower case
}

// read reads the system's files anew, as they may change.
func (s system) read() resolver {
	r := resolver{ndots: 1, attempts: 2, timeout: 5 * time.Second, hosts: map[string][]netip.Addr{}}
	for fields := range fileLines(s.resolv, "#;") {
		switch fields[0] {
		case "nameserver":
			if ip, err := netip.ParseAddr(fields[1]); err == nil && len(r.servers) < 3 {
				r.servers = append(r.servers, netip.AddrPortFrom(ip, 53).String())
			}
		case "domain", "search":
			r.domains = fields[1:]
		case "options":
			r.options(fields[1:])
		}
	}
	if s.servers != nil {
		r.servers = s.servers
	}
	if len(r.servers) == 0 {
		r.servers = []string{"127.0.0.1:53", "[::1]:53"}
	}
	if s.timeout > 0 {
		r.timeout = s.timeout
	}
	for fields := range fileLines(s.hosts, "#") {
		ip, err := netip.ParseAddr(fields[0])
		if err != nil || ip.Zone() != "" { // a URL has no room for a zone
			continue
		}
		for _, name := range fields[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			if !slices.Contains(r.hosts[name], ip) {
				r.hosts[name] = append(r.hosts[name], ip)
			}
		}
	}
	return r
}

// options are those of resolv.conf(5) that matter here.
func (r *resolver) options(list []string) {
	for _, option := range list {
		name, value, _ := strings.Cut(option, ":")
		n, err := strconv.Atoi(value)
		switch {
		case err != nil:
		case name == "ndots":
			r.ndots = min(max(n, 0), 15)
		case name == "timeout":
			r.timeout = time.Duration(min(max(n, 1), 30)) * time.Second
		case name == "attempts":
			r.attempts = min(max(n, 1), 5)
		}
	}
}

// fileLines gives the fields of each line of at least two, without comments. A
// file that cannot be read has none.
func fileLines(path, comment string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		data, err := os.ReadFile(path)
		if err != nil {
			return
		}
		for line := range strings.Lines(string(bytes.ToValidUTF8(data, nil))) {
			if i := strings.IndexAny(line, comment); i >= 0 {
				line = line[:i]
			}
			if fields := strings.Fields(line); len(fields) > 1 && !yield(fields) {
				return
			}
		}
	}
}

// candidates are the names that s may mean, in the order to try them in
// (resolv.conf(5)).
func (r *resolver) candidates(s string) []string {
	if strings.HasSuffix(s, ".") {
		return []string{s}
	}
	var list []string
	for _, domain := range r.domains {
		if name := s + "." + strings.TrimSuffix(domain, "."); validName(name) {
			list = append(list, name+".")
		}
	}
	if strings.Count(s, ".") >= r.ndots {
		return slices.Insert(list, 0, s+".")
	}
	return append(list, s+".")
}

// search asks for each candidate until one has records. A name that does not
// exist is an empty answer, not an error.
func (r *resolver) search(ctx context.Context, q question) (answer, error) {
	for _, name := range r.candidates(q.name) {
		a, err := r.follow(ctx, question{name, q.kind})
		if err != nil || len(a.ips)+len(a.srv) > 0 {
			return a, err
		}
	}
	return answer{}, nil
}

const maxAliases = 8

// follow asks for a name, and where its answer ends in an alias, for that.
func (r *resolver) follow(ctx context.Context, q question) (answer, error) {
	ttl := time.Duration(-1)
	for range maxAliases {
		reply, err := r.ask(ctx, q)
		if err != nil {
			return answer{}, err
		}
		a, end, ok := collect(q, reply)
		if !ok {
			return answer{}, fmt.Errorf("%s: aliases in a circle", q.name)
		}
		if ttl >= 0 {
			a.ttl = min(a.ttl, ttl)
		}
		if len(a.ips)+len(a.srv) > 0 || strings.EqualFold(end, q.name) {
			return a, nil
		}
		ttl, q.name = a.ttl, end
	}
	return answer{}, fmt.Errorf("%s: more than %d aliases", q.name, maxAliases)
}

// collect takes from the records of a reply those that answer q, along its
// aliases, and the name that these lead to.
func collect(q question, records []dnsmessage.Resource) (a answer, end string, ok bool) {
	end = q.name
	ttl := uint32(1<<31 - 1)
	for hops := 0; ; hops++ {
		alias := ""
		for _, r := range records {
			if !strings.EqualFold(r.Header.Name.String(), end) || r.Header.Class != dnsmessage.ClassINET {
				continue
			}
			switch body := r.Body.(type) {
			case *dnsmessage.CNAMEResource:
				alias = body.CNAME.String()
			case *dnsmessage.AResource:
				a.ips = append(a.ips, netip.AddrFrom4(body.A))
			case *dnsmessage.AAAAResource:
				a.ips = append(a.ips, netip.AddrFrom16(body.AAAA).Unmap())
			case *dnsmessage.SRVResource:
				a.srv = append(a.srv, *body)
			default:
				continue
			}
			ttl = min(ttl, r.Header.TTL)
		}
		a.ttl = time.Duration(ttl) * time.Second
		if alias == "" || len(a.ips)+len(a.srv) > 0 {
			return a, end, true
		}
		if end = alias; hops >= len(records) {
			return a, end, false
		}
	}
}

// ask gets the records of a reply, from the first server that has one. Of a
// name that does not exist there are none.
func (r *resolver) ask(ctx context.Context, q question) ([]dnsmessage.Resource, error) {
	name, err := dnsmessage.NewName(q.name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q.name, err)
	}
	asked := dnsmessage.Question{Name: name, Type: q.kind, Class: dnsmessage.ClassINET}
	var failed error
	for range r.attempts {
		for _, server := range r.servers {
			reply, err := exchange(ctx, server, asked, r.timeout)
			if err == nil {
				return reply, nil
			}
			failed = fmt.Errorf("%s of %s: server %s: %w", strings.TrimPrefix(q.kind.String(), "Type"), q.name, server, err)
			if ctx.Err() != nil {
				return nil, failed
			}
		}
	}
	return nil, failed
}

var errTruncated = errors.New("truncated answer")

// exchange asks one server: by UDP, and by TCP where the answer does not fit.
func exchange(ctx context.Context, server string, q dnsmessage.Question, timeout time.Duration) ([]dnsmessage.Resource, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reply, err := exchangeOver(ctx, "udp", server, q)
	if err == errTruncated {
		return exchangeOver(ctx, "tcp", server, q)
	}
	return reply, err
}

func exchangeOver(ctx context.Context, network, server string, q dnsmessage.Question) ([]dnsmessage.Resource, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	records, err := converse(c, network == "tcp", q)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return records, err
}
