package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const secureAddr = "127.0.0.1:19201"

var (
	http2 = flag.Bool("http2", false, "measure HTTP/2 beside HTTP/1.1, and TLS handshakes; needs h2load")
	caddy = flag.String("caddy", "caddy", "caddy's binary, beside which HTTP/2 is measured where there is one")
)

// A course is one way through one server.
type course struct {
	name   string
	server rival
	secure bool
	load   []string // h2load's arguments; nil: handshakes
}

var (
	one = []string{"--h1", "-c", "64"}
	two = []string{"-c", "8", "-m", "100"}
)

// compare measures all courses in turn.
func compare(dir string) error {
	certs := filepath.Join(dir, "certs")
	if out, err := exec.Command(*gateway, "cert", "-dev", certs).CombinedOutput(); err != nil {
		return fmt.Errorf("gateway cert: %w\n%s", err, out)
	}
	sluice := rival{"sluice", []string{*gateway, "run", "-config", "FILE"}, "sluice2.yaml", sluiceConf2(certs)}
	nginx := rival{"nginx", []string{"nginx", "-c", "FILE", "-e", "stderr"}, "nginx2.conf", nginxConf(dir, "tls", secureAddr+" ssl",
		fmt.Sprintf("ssl_certificate %s/server.pem; ssl_certificate_key %[1]s/server-key.pem; ssl_protocols TLSv1.3; location / { return 200; }", certs))}
	courses := []course{
		{"sluice http/1.1", sluice, false, one}, {"sluice h2c", sluice, false, two},
		{"sluice https/1.1", sluice, true, one}, {"sluice h2", sluice, true, two},
	}
	if _, err := exec.LookPath(*caddy); err == nil {
		own := rival{"caddy", []string{*caddy, "run", "--config", "FILE", "--adapter", "caddyfile"}, "Caddyfile", caddyConf(certs)}
		courses = append(courses, course{"caddy http/1.1", own, false, one}, course{"caddy h2c", own, false, two}, course{"caddy h2", own, true, two})
	}
	courses = append(courses, course{"sluice handshake", sluice, true, nil}, course{"nginx handshake", nginx, true, nil})
	results := map[string][]result{}
	for range *rounds {
		for _, c := range courses {
			r, err := c.measure(dir)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", c.name, err)
			}
			results[c.name] = append(results[c.name], r)
		}
	}
	fmt.Printf("%d-byte responses, median of %d rounds of %v in turn\n\n", *size, *rounds, *duration)
	fmt.Printf("%-18s %8s %8s %12s %10s\n", "", "CPU µs", "of user", "a second", "RSS KiB")
	for _, c := range courses {
		all := results[c.name]
		slices.SortFunc(all, func(a, b result) int { return cmp.Compare(a.perRequest, b.perRequest) })
		m := all[len(all)/2]
		fmt.Printf("%-18s %8.1f %8.1f %12.0f %10d\n", c.name, m.perRequest, m.user, m.perSecond, m.rss)
	}
	return nil
}

func sluiceConf2(certs string) string {
	return fmt.Sprintf(`listeners:
  - {address: %q, protocols: [http1, h2c]}
  - {address: %q, tls: {certificates: [{cert_file: %s/server.pem, key_file: %[3]s/server-key.pem}]}}
admin: {address: ""}
access_log: {enabled: %t}
backends:
  up: {targets: ["http://%s"], transport: {idle_connections: 1024}}
routes:
  - {match: /*, backend: up}
`, proxyAddr, secureAddr, certs, !*lean, originAddr)
}

func caddyConf(certs string) string {
	log := "log {\n output stdout\n }"
	if *lean {
		log = ""
	}
	return fmt.Sprintf(`{
 admin off
 auto_https off
 servers {
  protocols h1 h2 h2c
 }
}
http://%s {
 %s
 reverse_proxy %s
}
https://%s {
 tls %s/server.pem %[5]s/server-key.pem
 %[2]s
 reverse_proxy %[3]s
}
`, proxyAddr, log, originAddr, secureAddr, certs)
}

func (c course) measure(dir string) (result, error) {
	addr, scheme := proxyAddr, "http"
	if c.secure {
		addr, scheme = secureAddr, "https"
	}
	stop, pid, err := start(dir, c.server, addr)
	if err != nil {
		return result{}, err
	}
	defer stop()
	load := func(d time.Duration) (int, error) {
		if c.load == nil {
			return shake(addr, d)
		}
		args := append(slices.Clone(c.load), "-t", "1", "-D", strconv.Itoa(max(1, int(d.Seconds()))), scheme+"://"+addr+"/bench")
		out, err := exec.Command("h2load", args...).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("h2load: %w\n%s", err, out)
		}
		return count(string(out))
	}
	if _, err := load(time.Second); err != nil {
		return result{}, err
	}
	userBefore, systemBefore := cpu(pid)
	began := time.Now()
	n, err := load(*duration)
	if err != nil {
		return result{}, err
	}
	took := time.Since(began)
	userAfter, systemAfter := cpu(pid)
	user, system := (userAfter-userBefore).Seconds()*1e6/float64(n), (systemAfter-systemBefore).Seconds()*1e6/float64(n)
	return result{perRequest: user + system, user: user, perSecond: float64(n) / took.Seconds(), rss: rss(pid)}, nil
}

var (
	doneLine   = regexp.MustCompile(`(\d+) succeeded, (\d+) failed`)
	statusLine = regexp.MustCompile(`status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx`)
)

// count is how many requests h2load says were answered, all of them well.
func count(out string) (int, error) {
	n, _ := strconv.Atoi(sub(statusLine, out))
	m := doneLine.FindStringSubmatch(out)
	if n == 0 || m == nil || m[2] != "0" {
		return 0, errors.New("the load saw:\n" + strings.TrimSpace(out))
	}
	return n, nil
}

// shake does full handshakes, one connection each, by as many clients at once
// as keep a few cores busy.
func shake(addr string, d time.Duration) (int, error) {
	cfg := &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}, NextProtos: []string{"http/1.1"}}
	var done atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	until := time.Now().Add(d)
	for range 16 {
		wg.Go(func() {
			for time.Now().Before(until) && failed.Load() == nil {
				c, err := net.DialTimeout("tcp", addr, 5*time.Second)
				if err == nil {
					err = errors.Join(c.SetDeadline(time.Now().Add(5*time.Second)), tls.Client(c, cfg).Handshake())
					_ = c.(*net.TCPConn).SetLinger(0) // or ports run out
					c.Close()
				}
				if err != nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return int(done.Load()), nil
}
