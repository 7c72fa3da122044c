package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// storable is the location of an origin whose only answer is a file that may be
// stored for a day.
func storable(dir string) (string, error) {
	if err := os.Chmod(dir, 0o755); err != nil { // nginx' workers are somebody else
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "bench"), []byte(strings.Repeat("x", *size)), 0o644); err != nil {
		return "", err
	}
	return fmt.Sprintf("location / { root %s; default_type text/plain; add_header Cache-Control max-age=86400; }", dir), nil
}

// caches are the caches that are installed, each as its manual has it.
func caches(dir string) []rival {
	var rivals []rival
	if *gateway != "" {
		conf := strings.Replace(sluiceConf(), "backend: up}", "backend: up, cache: true}", 1)
		rivals = append(rivals, rival{"sluice", []string{*gateway, "run", "-config", "FILE"}, "sluice.yaml", conf})
	}
	if _, err := exec.LookPath("haproxy"); err == nil {
		conf := strings.Replace(haproxyConf(), "defaults\n", "cache c\n  total-max-size 64\n  max-object-size 1000000\n  max-age 86400\ndefaults\n", 1) +
			"  http-request cache-use c\n  http-response cache-store c\n"
		rivals = append(rivals, rival{"haproxy", []string{"haproxy", "-db", "-f", "FILE"}, "haproxy.cfg", conf})
	}
	if _, err := exec.LookPath("nginx"); err == nil {
		conf := nginxConf(dir, "proxy", proxyAddr, "location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_cache c; proxy_cache_lock on; }")
		conf = strings.Replace(conf, "upstream up", fmt.Sprintf("proxy_cache_path %s/cache keys_zone=c:10m; sendfile on; tcp_nopush on;\nupstream up", dir), 1)
		rivals = append(rivals, rival{"nginx", []string{"nginx", "-c", "FILE", "-e", "stderr"}, "nginx.conf", conf})
	}
	if _, err := exec.LookPath("varnishd"); err == nil {
		host, port, _ := strings.Cut(originAddr, ":")
		vcl := fmt.Sprintf("vcl 4.1;\nbackend default { .host = %q; .port = %q; }\n", host, port)
		rivals = append(rivals, rival{"varnish", []string{
			"varnishd", "-F", "-n", filepath.Join(dir, "varnish"), "-a", proxyAddr, "-f", "FILE", "-s", "malloc,128m", "-p", "thread_pools=2",
		}, "varnish.vcl", vcl})
	}
	return rivals
}
