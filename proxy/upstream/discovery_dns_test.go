package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// A zone is a DNS server on a loopback port, UDP and TCP.
type zone struct {
	addr string

	mu       sync.Mutex
	records  map[string][]dnsmessage.Resource // by "TYPE name."
	rcode    dnsmessage.RCode                 // instead of an answer
	silent   bool                             // no answer at all
	silentV6 bool                             // to AAAA
	truncate bool                             // over UDP
	forge    bool                             // false replies come before the right one

	asked, askedTCP atomic.Int64
	wg              sync.WaitGroup
}

func newZone(t *testing.T, records ...string) *zone {
	t.Helper()
	z := &zone{}
	z.set(records...)
	tcp, udp := samePort(t)
	z.addr = tcp.Addr().String()
	z.wg.Go(func() { z.serveUDP(udp) })
	z.wg.Go(func() { z.serveTCP(tcp) })
	t.Cleanup(func() { udp.Close(); tcp.Close(); z.wg.Wait() })
	return z
}

func samePort(t *testing.T) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return tcp, udp
		}
		tcp.Close()
	}
	t.Fatal("no port is free for both TCP and UDP")
	return nil, nil
}

// set replaces all records: "A name. ttl address", "CNAME name. ttl target.",
// "SRV name. ttl priority weight port target.".
func (z *zone) set(lines ...string) {
	records := map[string][]dnsmessage.Resource{}
	for _, line := range lines {
		f := strings.Fields(line)
		var ttl uint32
		fmt.Sscan(f[2], &ttl)
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(f[1]), Class: dnsmessage.ClassINET, TTL: ttl}}
		switch f[0] {
		case "A":
			r.Body = &dnsmessage.AResource{A: netip.MustParseAddr(f[3]).As4()}
		case "AAAA":
			r.Body = &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr(f[3]).As16()}
		case "CNAME":
			r.Body = &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(f[3])}
		case "SRV":
			srv := &dnsmessage.SRVResource{Target: dnsmessage.MustNewName(f[6])}
			fmt.Sscan(strings.Join(f[3:6], " "), &srv.Priority, &srv.Weight, &srv.Port)
			r.Body = srv
		}
		key := f[0] + " " + strings.ToLower(f[1])
		records[key] = append(records[key], r)
	}
	z.change(func() { z.records = records })
}

func (z *zone) change(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

func (z *zone) serveUDP(c net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		for _, reply := range z.replies(buf[:n], false) {
			c.WriteTo(reply, from)
		}
	}
}

func (z *zone) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		buf := make([]byte, 1<<16)
		c.SetDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, buf[:2]); err == nil {
			query := buf[:binary.BigEndian.Uint16(buf)]
			io.ReadFull(c, query)
			for _, reply := range z.replies(query, true) {
				c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
			}
		}
		c.Close()
	}
}

func (z *zone) replies(query []byte, tcp bool) [][]byte {
	z.mu.Lock()
	defer z.mu.Unlock()
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	z.asked.Add(1)
	if tcp {
		z.askedTCP.Add(1)
	}
	q := m.Questions[0]
	if z.silent || z.silentV6 && q.Type == dnsmessage.TypeAAAA {
		return nil
	}
	m.Response, m.RCode, m.Additionals = true, z.rcode, nil
	if m.RCode == dnsmessage.RCodeSuccess {
		m.Answers = z.answer(q)
	}
	if len(m.Answers) == 0 && m.RCode == dnsmessage.RCodeSuccess && !z.exists(q.Name.String()) {
		m.RCode = dnsmessage.RCodeNameError
	}
	if z.truncate && !tcp {
		m.Truncated, m.Answers = true, nil
	}
	right, _ := m.Pack()
	if !z.forge {
		return [][]byte{right}
	}
	m.ID ^= 1
	m.RCode = dnsmessage.RCodeNameError
	number, _ := m.Pack()
	m.ID ^= 1
	m.Questions[0].Name = dnsmessage.MustNewName("other.test.")
	name, _ := m.Pack()
	return [][]byte{[]byte("x"), number, name, query, right}
}

func (z *zone) answer(q dnsmessage.Question) (list []dnsmessage.Resource) {
	name := strings.ToLower(q.Name.String())
	for range 4 {
		if found := z.records[strings.TrimPrefix(q.Type.String(), "Type")+" "+name]; len(found) > 0 {
			return append(list, found...)
		}
		alias := z.records["CNAME "+name]
		if len(alias) == 0 {
			break
		}
		list = append(list, alias...)
		name = strings.ToLower(alias[0].Body.(*dnsmessage.CNAMEResource).CNAME.String())
		if strings.HasPrefix(name, "far") { // as a server that does not resolve what is not its own
			break
		}
	}
	return list
}

func (z *zone) exists(name string) bool {
	for key := range z.records {
		if strings.HasSuffix(key, " "+strings.ToLower(name)) {
			return true
		}
	}
	return false
}

// A seeker runs a discovery in a test.
type seeker struct {
	*Discovery
	t    *testing.T
	got  chan []string
	logs *lines
}

type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(p))
	return len(p), nil
}

func (l *lines) count(part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func show(f Found) string {
	return strings.TrimSpace(fmt.Sprintf("%s %d %d %s", f.URL, f.Weight, f.Priority, f.Host))
}

func seek(t *testing.T, cfg DiscoveryConfig, servers ...string) *seeker {
	t.Helper()
	s := &seeker{t: t, got: make(chan []string, 100), logs: &lines{}}
	d, err := NewDiscovery(cfg, slog.New(slog.NewTextHandler(s.logs, nil)), nil, func(list []Found) {
		var text []string
		for _, f := range list {
			text = append(text, show(f))
		}
		s.got <- text
	})
	if err != nil {
		t.Fatal(err)
	}
	d.system = system{servers: servers, timeout: time.Second}
	s.Discovery = d
	return s
}

func (s *seeker) run() *seeker {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				s.t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			s.t.Error("Run does not end")
		}
	})
	return s
}

func (s *seeker) next() []string {
	s.t.Helper()
	select {
	case got := <-s.got:
		return got
	case <-time.After(patience):
		s.t.Fatalf("nothing found; state %+v", s.State())
		return nil
	}
}

func (s *seeker) want(targets ...string) {
	s.t.Helper()
	if got := s.next(); !slices.Equal(got, targets) {
		s.t.Fatalf("found\n%q, want\n%q", got, targets)
	}
}

// settles is want after a change of the zone: a look asks more than one question,
// and the change may come between two.
func (s *seeker) settles(targets ...string) {
	s.t.Helper()
	var last []string
	for patient := time.After(patience); !slices.Equal(last, targets); {
		select {
		case last = <-s.got:
		case <-patient:
			s.t.Fatalf("never found %q; last %q, state %+v", targets, last, s.State())
		}
	}
}

func (s *seeker) quiet() {
	s.t.Helper()
	select {
	case got := <-s.got:
		s.t.Fatalf("found %q, want nothing new", got)
	default:
	}
}

func (s *seeker) failing(why string) {
	s.t.Helper()
	eventually(s.t, "failing with "+why, func() bool {
		state := s.State()
		return state.Failing && strings.Contains(state.Fault, why)
	})
}

const fast = leastRefresh

func TestDiscoveryRejected(t *testing.T) {
	for _, c := range []struct {
		cfg  DiscoveryConfig
		want string
	}{
		{DiscoveryConfig{}, "neither"},
		{DiscoveryConfig{DNS: "a:1", File: "b"}, "both"},
		{DiscoveryConfig{DNS: "a:1", Refresh: time.Millisecond}, "refresh"},
		{DiscoveryConfig{File: "a", Refresh: -time.Second}, "refresh"},
		{DiscoveryConfig{DNS: "a"}, "name:port"},
		{DiscoveryConfig{DNS: "a:"}, "port"},
		{DiscoveryConfig{DNS: "a:0"}, "port"},
		{DiscoveryConfig{DNS: "a:70000"}, "port"},
		{DiscoveryConfig{DNS: "a:http"}, "port"},
		{DiscoveryConfig{DNS: "127.0.0.1:80"}, "address"},
		{DiscoveryConfig{DNS: "[::1]:80"}, "address"},
		{DiscoveryConfig{DNS: "http://[::1]"}, "address"},
		{DiscoveryConfig{DNS: "ftp://a:1"}, "want"},
		{DiscoveryConfig{DNS: "http://a:1/path"}, "want"},
		{DiscoveryConfig{DNS: "http://u@a:1"}, "want"},
		{DiscoveryConfig{DNS: "a b:1"}, "domain name"},
		{DiscoveryConfig{DNS: "a..b:1"}, "domain name"},
		{DiscoveryConfig{DNS: strings.Repeat("a", 64) + ":1"}, "domain name"},
		{DiscoveryConfig{DNS: "srv:"}, "domain name"},
		{DiscoveryConfig{DNS: "srv:a:1"}, "port"},
		{DiscoveryConfig{DNS: "_a._tcp.b:1"}, "port"},
	} {
		if _, err := NewDiscovery(c.cfg, slog.Default(), nil, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
	for s, want := range map[string]service{
		"a.b:80": {"http", "a.b", "80"}, "http://a": {"http", "a", "80"}, "https://a/": {"https", "a", "443"}, "https://a:8": {"https", "a", "8"},
		"_h._tcp.a": {"http", "_h._tcp.a", ""}, "https://_h._tcp.a": {"https", "_h._tcp.a", ""}, "srv:a.b.": {"http", "a.b.", ""},
	} {
		if got, err := parseService(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
}

func TestDiscoveryAddresses(t *testing.T) {
	z := newZone(t, "A app.test. 60 10.0.0.2", "A app.test. 60 10.0.0.1", "AAAA app.test. 60 fd00::1")
	s := seek(t, DiscoveryConfig{DNS: "https://APP.test:8443", Refresh: fast}, z.addr).run()
	s.want("https://10.0.0.1:8443 1 0 APP.test:8443", "https://10.0.0.2:8443 1 0 APP.test:8443", "https://[fd00::1]:8443 1 0 APP.test:8443")
	if name := (Found{Host: "app.test:8443"}).ServerName(); name != "app.test" {
		t.Errorf("server name %q", name)
	}
	z.set("AAAA app.test. 60 fd00::1", "A app.test. 60 10.0.0.1", "A app.test. 60 10.0.0.2") // another order is no change
	n := z.asked.Load()
	eventually(t, "two more looks", func() bool { return z.asked.Load() > n+4 })
	s.quiet()
	z.set("AAAA app.test. 60 fd00::2")
	s.settles("https://[fd00::2]:8443 1 0 APP.test:8443")
	if state := s.State(); state.Failing || state.Targets != 1 || state.Looked.IsZero() {
		t.Errorf("%+v", state)
	}
}

func TestDiscoveryTTL(t *testing.T) {
	for _, c := range []struct{ ttl, refresh, want time.Duration }{
		{0, 10 * time.Second, time.Second}, {5 * time.Second, 10 * time.Second, 5 * time.Second},
		{time.Hour, 10 * time.Second, 10 * time.Second}, {0, 100 * time.Millisecond, 100 * time.Millisecond},
	} {
		if got := nextLook(c.ttl, c.refresh); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	// A TTL of 1 s is seen long before the refresh; that of the alias counts too.
	for _, records := range [][2][]string{
		{{"A app.test. 1 10.0.0.1"}, {"A app.test. 1 10.0.0.2"}},
		{{"CNAME app.test. 1 x.test.", "A x.test. 600 10.0.0.1"}, {"CNAME app.test. 1 x.test.", "A x.test. 600 10.0.0.2"}},
		{{"CNAME app.test. 1 far.test.", "A far.test. 600 10.0.0.1"}, {"A app.test. 1 10.0.0.2"}},
		{{"A app.test. 600 10.0.0.1", "AAAA app.test. 1 fd00::1"}, {"A app.test. 600 10.0.0.2"}},
	} {
		z := newZone(t, records[0]...)
		s := seek(t, DiscoveryConfig{DNS: "app.test:80", Refresh: time.Hour}, z.addr).run()
		began := time.Now()
		if first := s.next(); first[0] != "http://10.0.0.1:80 1 0 app.test:80" {
			t.Fatal(first)
		}
		z.set(records[1]...)
		s.settles("http://10.0.0.2:80 1 0 app.test:80")
		looks := 2 + int64(time.Since(began)/time.Second)
		if n := z.asked.Load(); n > 4*looks { // both families, and their alias
			t.Errorf("%q: %d questions in %d looks", records[0], n, looks)
		}
	}
}

func TestDiscoveryFails(t *testing.T) {
	z := newZone(t, "A app.test. 60 10.0.0.1")
	s := seek(t, DiscoveryConfig{DNS: "app.test:80", Refresh: fast}, z.addr).run()
	s.want("http://10.0.0.1:80 1 0 app.test:80")
	for i, c := range []struct {
		why   string
		spoil func()
	}{
		{"ServerFailure", func() { z.rcode = dnsmessage.RCodeServerFailure }},
		{"Refused", func() { z.rcode = dnsmessage.RCodeRefused }},
		{"no addresses", func() { z.rcode = dnsmessage.RCodeNameError }},
		{"deadline", func() { z.silent = true }},
		{"no addresses", func() { z.records = nil }},
		{"no addresses", func() { z.records = z.records1("MX") }},
		{"aliases", func() { z.records = z.circle() }},
	} {
		good := z.records
		z.change(c.spoil)
		s.failing(c.why)
		n := z.asked.Load()
		eventually(t, "more looks", func() bool { return z.asked.Load() > n+2 })
		s.quiet()
		if state := s.State(); state.Targets != 1 {
			t.Errorf("%s: %+v", c.why, state)
		}
		z.change(func() { z.rcode, z.silent, z.records = dnsmessage.RCodeSuccess, false, good })
		eventually(t, "works again", func() bool { return !s.State().Failing })
		if fails, works := s.logs.count("discovery fails"), s.logs.count("works again"); fails != i+1 || works > i+1 {
			t.Errorf("%s: %d and %d log lines", c.why, fails, works)
		}
	}
	s.quiet()
}

// records1 has the name, but nothing of use under it.
func (z *zone) records1(kind string) map[string][]dnsmessage.Resource {
	return map[string][]dnsmessage.Resource{kind + " app.test.": {}}
}

func (z *zone) circle() map[string][]dnsmessage.Resource {
	alias := func(name, to string) []dnsmessage.Resource {
		return []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)},
		}}
	}
	return map[string][]dnsmessage.Resource{"CNAME app.test.": alias("app.test.", "b.test."), "CNAME b.test.": alias("b.test.", "app.test.")}
}

// TestDiscoveryHalf loses one family: its addresses stay, the other's change.
func TestDiscoveryHalf(t *testing.T) {
	z := newZone(t, "A app.test. 60 10.0.0.1", "AAAA app.test. 60 fd00::1")
	s := seek(t, DiscoveryConfig{DNS: "app.test:80", Refresh: fast}, z.addr).run()
	s.want("http://10.0.0.1:80 1 0 app.test:80", "http://[fd00::1]:80 1 0 app.test:80")
	z.change(func() { z.silentV6 = true })
	s.failing("AAAA of app.test")
	z.set("A app.test. 60 10.0.0.2")
	s.settles("http://10.0.0.2:80 1 0 app.test:80", "http://[fd00::1]:80 1 0 app.test:80")
	z.change(func() { z.silentV6 = false })
	s.settles("http://10.0.0.2:80 1 0 app.test:80")
}

// TestDiscoveryStarts with servers that do not answer, and goes on as soon as
// one does.
func TestDiscoveryStarts(t *testing.T) {
	dead, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	z := newZone(t, "A app.test. 60 10.0.0.1")
	z.change(func() { z.silent = true })
	s := seek(t, DiscoveryConfig{DNS: "app.test:80", Refresh: time.Hour}, dead.LocalAddr().String(), z.addr).run()
	s.failing("deadline")
	s.quiet()
	if state := s.State(); state.Targets != 0 || !state.Looked.IsZero() {
		t.Errorf("%+v", state)
	}
	z.change(func() { z.silent = false })
	s.settles("http://10.0.0.1:80 1 0 app.test:80") // by the second server, and long before the refresh
}

func TestDiscoveryTruncated(t *testing.T) {
	var records, want []string
	for i := range 200 {
		records = append(records, fmt.Sprintf("A app.test. 60 10.0.1.%d", i))
		want = append(want, fmt.Sprintf("http://10.0.1.%d:80 1 0 app.test:80", i))
	}
	slices.Sort(want)
	z := newZone(t, records...)
	z.change(func() { z.truncate = true })
	s := seek(t, DiscoveryConfig{DNS: "app.test:80", Refresh: time.Hour}, z.addr).run()
	s.want(want...)
	if n := z.askedTCP.Load(); n < 2 {
		t.Errorf("%d questions over TCP, want one a family", n)
	}
}

// TestDiscoveryForged sends false replies before the right one.
func TestDiscoveryForged(t *testing.T) {
	z := newZone(t, "A app.test. 60 10.0.0.1")
	z.change(func() { z.forge = true })
	s := seek(t, DiscoveryConfig{DNS: "app.test:80", Refresh: time.Hour}, z.addr).run()
	s.want("http://10.0.0.1:80 1 0 app.test:80")
}

func TestDiscoverySRV(t *testing.T) {
	z := newZone(t,
		"SRV _http._tcp.app.test. 60 10 30 8001 a.test.", "SRV _http._tcp.app.test. 60 10 10 8002 b.test.",
		"SRV _http._tcp.app.test. 60 20 0 8003 a.test.", "SRV _http._tcp.app.test. 60 30 0 8004 .", "SRV _http._tcp.app.test. 60 10 5 8005 gone.test.",
		"A a.test. 60 10.0.0.1", "A b.test. 60 10.0.0.2")
	s := seek(t, DiscoveryConfig{DNS: "_http._tcp.app.test", Refresh: fast}, z.addr).run()
	s.want("http://10.0.0.1:8001 30 0 a.test:8001", "http://10.0.0.2:8002 10 0 b.test:8002", "http://10.0.0.1:8003 1 1 a.test:8003")
	// Two addresses share the weight of their record; large weights are scaled.
	z.set("SRV _http._tcp.app.test. 60 1 60000 81 a.test.", "SRV _http._tcp.app.test. 60 1 30000 82 b.test.",
		"A a.test. 60 10.0.0.1", "AAAA a.test. 60 fd00::1", "A b.test. 60 10.0.0.2")
	s.settles("http://10.0.0.1:81 500 0 a.test:81", "http://10.0.0.2:82 500 0 b.test:82", "http://[fd00::1]:81 500 0 a.test:81")
	z.set("SRV _http._tcp.app.test. 60 1 1 81 a.test.", "SRV _http._tcp.app.test. 60 1 1 82 b.test.",
		"A a.test. 60 10.0.0.1", "AAAA a.test. 60 fd00::1", "A b.test. 60 10.0.0.2")
	s.settles("http://10.0.0.1:81 1 0 a.test:81", "http://10.0.0.2:82 2 0 b.test:82", "http://[fd00::1]:81 1 0 a.test:81")
	z.set("SRV _http._tcp.app.test. 60 1 1 81 .")
	s.failing("no addresses")
	s.quiet()
}

// TestDiscoverySystem resolves as resolv.conf and hosts say.
func TestDiscoverySystem(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "resolv.conf"), "# x\nnameserver 192.0.2.1\nnameserver fd00::53 ; y\nnameserver bad\nsearch ns.svc.test. svc.test\noptions ndots:2 timeout:1 attempts:9 edns0\n")
	write(t, filepath.Join(dir, "hosts"), "127.0.0.1 localhost Local.Test # x\n::1 localhost\nfe80::1%lo local.test\nbad line\n")
	r := system{resolv: filepath.Join(dir, "resolv.conf"), hosts: filepath.Join(dir, "hosts")}.read()
	if want := []string{"192.0.2.1:53", "[fd00::53]:53"}; !slices.Equal(r.servers, want) || r.attempts != 5 || r.timeout != time.Second {
		t.Errorf("%+v", r)
	}
	for name, want := range map[string][]string{
		"app": {"app.ns.svc.test.", "app.svc.test.", "app."}, "a.b": {"a.b.ns.svc.test.", "a.b.svc.test.", "a.b."},
		"a.b.c": {"a.b.c.", "a.b.c.ns.svc.test.", "a.b.c.svc.test."}, "app.": {"app."},
	} {
		if got := r.candidates(name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	z := newZone(t, "A app.svc.test. 60 10.0.0.1")
	s := seek(t, DiscoveryConfig{DNS: "app:80"}, z.addr)
	s.system.resolv = filepath.Join(dir, "resolv.conf")
	s.run().want("http://10.0.0.1:80 1 0 app:80")
	s = seek(t, DiscoveryConfig{DNS: "LOCAL.test:80"}, z.addr)
	s.system.hosts = filepath.Join(dir, "hosts")
	s.run().want("http://127.0.0.1:80 1 0 LOCAL.test:80")
	if r := (system{resolv: "/nonexistent"}).read(); len(r.servers) != 2 || r.ndots != 1 {
		t.Errorf("%+v", r)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// FuzzDNSReply takes replies apart that a server may send: no panic, and never
// records with an error.
func FuzzDNSReply(f *testing.F) {
	q := dnsmessage.Question{Name: dnsmessage.MustNewName("app.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	z := &zone{forge: true}
	z.set("CNAME app.test. 1 x.test.", "A x.test. 600 10.0.0.1")
	query, err := packQuery(7, q)
	if err != nil {
		f.Fatal(err)
	}
	for _, reply := range z.replies(query[2:], false) {
		f.Add(reply)
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		records, ours, err := readReply(message, 7, q, false)
		if (!ours || err != nil) && len(records) > 0 && !errors.Is(err, errTruncated) {
			t.Errorf("%d records, ours %v, %v", len(records), ours, err)
		}
		collect(question{"app.test.", dnsmessage.TypeA}, records)
	})
}
