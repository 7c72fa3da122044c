// Command bench measures what a forwarded request costs: CPU time of the
// proxy's own processes a request, and requests a second, for the gateway and
// for whichever of HAProxy and nginx are installed, in turn in one run against
// the same origin with the same load.
//
// It needs nginx (the origin), wrk (the load) and the gateway's binary:
//
//	go build -o /tmp/gateway ./cmd/gateway && go -C bench run . -gateway /tmp/gateway
//
// With -cache all answers come from caches: HAProxy's, nginx's and Varnish's
// beside the gateway's.
//
// With -peers it compares all that Sluice does with whoever else does it, and
// writes RESULTS.md (make bench).
//
// With -http2 it compares HTTP/2 with HTTP/1.1, beside Caddy, and handshakes
// beside nginx; the load is h2load's. With -limits it measures what rate limits
// cost.
package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	originAddr = "127.0.0.1:19100"
	proxyAddr  = "127.0.0.1:19200"
)

var (
	gateway     = flag.String("gateway", "", "the gateway's binary")
	connections = flag.Int("connections", 64, "client connections")
	duration    = flag.Duration("duration", 5*time.Second, "of each measurement")
	rounds      = flag.Int("rounds", 3, "measurements of each proxy, taken in turn; the median counts")
	size        = flag.Int("size", 130, "response bytes")
	lean        = flag.Bool("lean", false, "nobody writes an access log; without it all do")
	limits      = flag.Bool("limits", false, "measure what rate limits cost, local, leased and by a command for each request; needs redis-server")
	caching     = flag.Bool("cache", false, "answers come from each one's cache")
)

// A rival is one proxy to measure.
type rival struct {
	name string
	args []string
	file string // configuration, written to the scratch folder
	text string
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "sluice-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *compared {
		return playAll(dir)
	}
	location := fmt.Sprintf("location / { default_type text/plain; return 200 '%s'; }", strings.Repeat("x", *size))
	if *caching {
		if location, err = storable(dir); err != nil {
			return err
		}
	}
	origin := rival{"origin", []string{"nginx", "-c", "FILE", "-e", "stderr"}, "origin.conf", nginxConf(dir, "origin", originAddr, location)}
	stop, _, err := start(dir, origin, originAddr)
	if err != nil {
		return fmt.Errorf("starting the origin: %w", err)
	}
	defer stop()
	if *http2 {
		return compare(dir)
	}
	if *limits {
		return compareLimits(dir)
	}
	results := map[string][]result{}
	rivals := installed(dir)
	if *caching {
		rivals = caches(dir)
	}
	for range *rounds {
		for _, r := range rivals {
			one, err := measure(dir, r)
			if err != nil {
				return fmt.Errorf("measuring %s: %w", r.name, err)
			}
			results[r.name] = append(results[r.name], one)
		}
	}
	report(rivals, results)
	return nil
}

func installed(dir string) []rival {
	var rivals []rival
	if *gateway != "" {
		rivals = append(rivals, rival{"sluice", []string{*gateway, "run", "-config", "FILE"}, "sluice.yaml", sluiceConf()})
	}
	if _, err := exec.LookPath("haproxy"); err == nil {
		rivals = append(rivals, rival{"haproxy", []string{"haproxy", "-db", "-f", "FILE"}, "haproxy.cfg", haproxyConf()})
	}
	if _, err := exec.LookPath("nginx"); err == nil {
		rivals = append(rivals, rival{"nginx", []string{"nginx", "-c", "FILE", "-e", "stderr"}, "nginx.conf", nginxConf(dir, "proxy", proxyAddr,
			nginxLog(dir)+"location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }")})
	}
	return rivals
}

func nginxConf(dir, name, addr, location string) string {
	return fmt.Sprintf(`daemon off; worker_processes 2; pid %s/%s.pid; error_log stderr error;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path %[1]s/%[2]s-b; proxy_temp_path %[1]s/%[2]s-p; fastcgi_temp_path %[1]s/%[2]s-f; uwsgi_temp_path %[1]s/%[2]s-u; scgi_temp_path %[1]s/%[2]s-s;
upstream up { server %s; keepalive 512; keepalive_requests 100000000; }
server { listen %s; %s } }
`, dir, name, originAddr, addr, location)
}

// nginxLog is an access log as nginx is tuned to write one, a buffer at a time.
func nginxLog(dir string) string {
	if *lean {
		return ""
	}
	return fmt.Sprintf("access_log %s/nginx.log combined buffer=64k flush=1s; ", dir)
}

func haproxyConf() string {
	log := "  option httplog\n  log stdout format raw local0\n"
	if *lean {
		log = ""
	}
	return fmt.Sprintf(`global
  nbthread 2
  maxconn 8192
defaults
  mode http
%s  timeout connect 1s
  timeout client 75s
  timeout server 60s
  option forwardfor
  http-reuse always
frontend f
  bind %s
  default_backend b
backend b
  server s %s
`, log, proxyAddr, originAddr)
}

func sluiceConf() string {
	log := "access_log: {enabled: true}\n"
	if *lean {
		log = "access_log: {enabled: false}\n"
	}
	return fmt.Sprintf("listeners: [{address: %q}]\nadmin: {address: \"\"}\n%sbackends:\n  up: {targets: [\"http://%s\"]}\nroutes:\n  - {name: all, match: \"/*\", backend: up}\n", proxyAddr, log, originAddr)
}

// start runs a server until it accepts connections at addr.
func start(dir string, r rival, addr string) (stop func(), pid int, err error) {
	file := filepath.Join(dir, r.file)
	if err := os.WriteFile(file, []byte(r.text), 0o644); err != nil {
		return nil, 0, err
	}
	args := slices.Clone(r.args)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "FILE", file)
	}
	cmd := exec.Command(args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if cmd.Stdout, err = os.Create(filepath.Join(dir, r.name+".out")); err != nil {
		return nil, 0, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	stop = func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its own group, nobody else's
		_ = cmd.Wait()
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			c, err := net.Dial("tcp", addr) // a process of the group may be slow to go, and would take the next one's clients
			if err != nil {
				return
			}
			c.Close()
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return stop, cmd.Process.Pid, nil
		}
		if time.Now().After(deadline) {
			stop()
			return nil, 0, fmt.Errorf("%s does not listen: %s", r.name, stderr.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

type result struct {
	perRequest float64 // CPU µs
	user       float64 // of these, outside the kernel
	perSecond  float64
	requests   float64
	p99        string
	rss        int // KiB
}

var (
	requestsLine = regexp.MustCompile(`(\d+) requests in`)
	rateLine     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	p99Line      = regexp.MustCompile(`(?m)^\s*99%\s+(\S+)`) // of the distribution; a share of 93.99% stands before it
	badLine      = regexp.MustCompile(`(Non-2xx.*|Socket errors.*)`)
)

func measure(dir string, r rival) (result, error) {
	stop, pid, err := start(dir, r, proxyAddr)
	if err != nil {
		return result{}, err
	}
	defer stop()
	if _, err := drive(proxyAddr, time.Second); err != nil {
		return result{}, err
	}
	return measureAt(proxyAddr, pid, *duration)
}

// drive has wrk load a server, and returns what it says.
func drive(addr string, d time.Duration) (string, error) {
	out, err := exec.Command("wrk", "-t2", "-c", strconv.Itoa(*connections), "-d", fmt.Sprintf("%ds", max(1, int(d.Seconds()))), "--latency", "http://"+addr+"/bench").CombinedOutput()
	return string(out), err
}

// measureAt measures a server that runs and is warm.
func measureAt(addr string, pid int, d time.Duration) (result, error) {
	userBefore, systemBefore := cpu(pid)
	out, err := drive(addr, d)
	if err != nil {
		return result{}, err
	}
	userAfter, systemAfter := cpu(pid)
	if bad := badLine.FindString(out); bad != "" {
		return result{}, fmt.Errorf("the load saw %s", bad)
	}
	requests, _ := strconv.ParseFloat(sub(requestsLine, out), 64)
	rate, _ := strconv.ParseFloat(sub(rateLine, out), 64)
	if requests == 0 {
		return result{}, fmt.Errorf("no requests in %q", out)
	}
	user, system := (userAfter-userBefore).Seconds()*1e6/requests, (systemAfter-systemBefore).Seconds()*1e6/requests
	return result{user + system, user, rate, requests, sub(p99Line, out), rss(pid)}, nil
}

func sub(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// group are the processes of pid's process group.
func group(pid int) []string {
	var stats []string
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if len(fields) > 21 && fields[2] == strconv.Itoa(pid) {
			stats = append(stats, strings.Join(fields, " "))
		}
	}
	return stats
}

// cpu is the CPU time that the process group of pid has used.
func cpu(pid int) (user, system time.Duration) {
	const tick = 10 * time.Millisecond // USER_HZ is 100
	for _, s := range group(pid) {
		f := strings.Fields(s)
		u, _ := strconv.Atoi(f[11])
		k, _ := strconv.Atoi(f[12])
		user += time.Duration(u) * tick
		system += time.Duration(k) * tick
	}
	return user, system
}

func rss(pid int) int {
	pages := 0
	for _, s := range group(pid) {
		n, _ := strconv.Atoi(strings.Fields(s)[21])
		pages += n
	}
	return pages * os.Getpagesize() / 1024
}

func report(rivals []rival, results map[string][]result) {
	fmt.Printf("%d connections, %d-byte responses, median of %d rounds of %v in turn\n\n", *connections, *size, *rounds, *duration)
	fmt.Printf("%-10s %14s %8s %12s %10s %10s %8s\n", "", "CPU µs/request", "of user", "requests/s", "p99", "RSS KiB", "× haproxy")
	median := func(name string) result {
		all := slices.Clone(results[name])
		slices.SortFunc(all, func(a, b result) int { return cmp.Compare(a.perRequest, b.perRequest) })
		if len(all) == 0 {
			return result{}
		}
		return all[len(all)/2]
	}
	base := median("haproxy").perRequest
	for _, r := range rivals {
		m := median(r.name)
		ratio := "–"
		if base > 0 {
			ratio = fmt.Sprintf("%.2f", m.perRequest/base)
		}
		fmt.Printf("%-10s %14.1f %8.1f %12.0f %10s %10d %8s\n", r.name, m.perRequest, m.user, m.perSecond, m.p99, m.rss, ratio)
	}
}
