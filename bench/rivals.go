package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const redisAddr = "127.0.0.1:19300"

// A duty is what a proxy is set up for.
type duty int

const (
	forward duty = iota
	cached
	localLimit
	globalLimit
)

// A peer is a proxy that is compared, and how it is set up for each duty it has.
type peer struct {
	name, program string
	version       []string // command line that says its version
	fair          string   // what was set to make the comparison fair
	setup         func(dir string, d duty) (args []string, file, text string, ok bool)
}

func peers() []peer {
	return []peer{
		{"Sluice", *gateway, []string{*gateway, "version"}, "no access log", sluicePeer},
		{"HAProxy", "haproxy", []string{"haproxy", "-v"}, "2 threads, http-reuse always, no log", haproxyPeer},
		{"nginx", "nginx", []string{"nginx", "-v"}, "2 workers, 512 idle connections to the origin, no access log", nginxPeer},
		{"Varnish", "varnishd", []string{"varnishd", "-V"}, "forwarding by return (pass), malloc storage", varnishPeer},
		{"Caddy", *caddy, []string{*caddy, "version"}, "no access log, admin off", caddyPeer},
	}
}

func sluicePeer(_ string, d duty) ([]string, string, string, bool) {
	text := fmt.Sprintf("listeners: [{address: %q}]\nadmin: {address: \"\"}\naccess_log: {enabled: false}\n", proxyAddr)
	route := `{name: all, match: "/*", backend: up}`
	switch d {
	case cached:
		route = `{name: all, match: "/*", backend: up, cache: {ttl: {default: 1h}}}`
	case localLimit:
		route = `{name: all, match: "/*", backend: up, limits: [{name: l, key: ip, rate: 10000000/1s, burst: 10000000, scope: local}]}`
	case globalLimit:
		text += fmt.Sprintf("redis: {addresses: [%q]}\n", redisAddr)
		route = `{name: all, match: "/*", backend: up, limits: [{name: l, key: ip, rate: 10000000/1s, burst: 10000000, scope: global}]}`
	}
	text += fmt.Sprintf("backends:\n  up: {targets: [\"http://%s\"]}\nroutes:\n  - %s\n", originAddr, route)
	return []string{*gateway, "run", "-config", "FILE"}, "sluice.yaml", text, true
}

func haproxyPeer(_ string, d duty) ([]string, string, string, bool) {
	text := haproxyConf()
	switch d {
	case cached:
		text += "  http-request cache-use c\n  http-response cache-store c\ncache c\n  total-max-size 256\n  max-object-size 2000000\n  max-age 3600\n"
	case localLimit:
		text = strings.Replace(text, "  default_backend b\n", "  stick-table type ip size 1m expire 10m store http_req_rate(1s)\n  http-request track-sc0 src\n  http-request deny deny_status 429 if { sc_http_req_rate(0) gt 10000000 }\n  default_backend b\n", 1)
	case globalLimit:
		return nil, "", "", false // peers share tables without bounding the sum
	}
	return []string{"haproxy", "-db", "-f", "FILE"}, "haproxy.cfg", text, true
}

func nginxPeer(dir string, d duty) ([]string, string, string, bool) {
	location := "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
	outside := ""
	switch d {
	case cached:
		outside = fmt.Sprintf("proxy_cache_path %s/nginx-cache keys_zone=c:10m max_size=256m;", dir)
		location += " proxy_cache c;"
	case localLimit:
		// nginx has no rate above what an int of thousandths holds.
		outside = "limit_req_zone $binary_remote_addr zone=l:10m rate=1000000r/s;"
		location += " limit_req zone=l burst=1000000 nodelay; limit_req_status 429;"
	case globalLimit:
		return nil, "", "", false
	}
	text := nginxConf(dir, "proxy", proxyAddr, "location / { "+location+" }")
	text = strings.Replace(text, "http { ", "http { "+outside+" ", 1)
	return []string{"nginx", "-c", "FILE", "-e", "stderr"}, "nginx.conf", text, true
}

func varnishPeer(dir string, d duty) ([]string, string, string, bool) {
	if d == localLimit || d == globalLimit {
		return nil, "", "", false // only with a module that Debian does not ship
	}
	text := fmt.Sprintf("vcl 4.1;\nbackend default { .host = \"127.0.0.1\"; .port = %q; }\n", strings.TrimPrefix(originAddr, "127.0.0.1:"))
	if d == forward {
		text += "sub vcl_recv { return (pass); }\n"
	}
	return []string{"varnishd", "-F", "-j", "none", "-n", filepath.Join(dir, "varnish"), "-a", proxyAddr, "-f", "FILE", "-s", "malloc,256m"}, "varnish.vcl", text, true
}

func caddyPeer(_ string, d duty) ([]string, string, string, bool) {
	if d != forward {
		return nil, "", "", false // only with plugins
	}
	text := fmt.Sprintf("{\n admin off\n auto_https off\n}\n:%s {\n bind 127.0.0.1\n reverse_proxy %s\n}\n", strings.TrimPrefix(proxyAddr, "127.0.0.1:"), originAddr)
	return []string{*caddy, "run", "--config", "FILE", "--adapter", "caddyfile"}, "Caddyfile", text, true
}

// lacks says why a peer cannot be measured here; "" where it can.
func (p peer) lacks() string {
	if p.program == "" {
		return "no -gateway was given"
	}
	if _, err := exec.LookPath(p.program); err != nil {
		return "it is not installed (Debian: apt-get install " + filepath.Base(p.program) + ")"
	}
	return ""
}

// refuses says why a peer's own check does not take a setup: a Sluice that is
// older than a feature does not know its key.
func (p peer) refuses(dir, file, text string) string {
	if p.name != "Sluice" {
		return ""
	}
	path := filepath.Join(dir, "check-"+file)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err.Error()
	}
	if out, err := exec.Command(*gateway, "check", "-config", path).CombinedOutput(); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return "gateway check: " + strings.TrimPrefix(first, path+":")
	}
	return ""
}

// speaks is a peer's version, as it says it itself.
func (p peer) speaks() string {
	out, err := exec.Command(p.version[0], p.version[1:]...).CombinedOutput()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(line)
}
