package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	compared = flag.Bool("peers", false, "compare with HAProxy, nginx, Varnish and Caddy and write RESULTS.md and results.svg; needs nginx, wrk and, for global limits, redis-server")
	only     = flag.String("only", "", "with -peers: the contests whose name begins so; empty: all")
	state    = flag.String("state", "", "with -peers: a file that keeps measurements, so that contests can be run one at a time")
	out      = flag.String("out", ".", "with -peers: the folder of RESULTS.md and results.svg")
)

// A contest is one thing that all peers do that can.
type contest struct {
	name string
	duty duty
	path string // at the origin
	idle int    // connections that are open and silent; 0: load instead
}

func contests() []contest {
	return []contest{
		{"forwarded 130 B", forward, "/130", 0},
		{"forwarded 64 KiB", forward, "/65536", 0},
		{"forwarded 1 MiB", forward, "/1048576", 0},
		{"cached 130 B", cached, "/130", 0},
		{"cached 64 KiB", cached, "/65536", 0},
		{"local limit 130 B", localLimit, "/130", 0},
		{"global limit 130 B", globalLimit, "/130", 0},
		{"idle connections", forward, "/130", 2000},
	}
}

// A measurement is what one run of one peer gave.
type measurement struct {
	CPU     float64 `json:"cpu"`  // µs a request, of the proxy's own processes
	User    float64 `json:"user"` // of these, outside the kernel
	Rate    float64 `json:"rate"` // requests a second
	P99     string  `json:"p99"`
	RSS     int     `json:"rss"`  // KiB
	PerIdle float64 `json:"idle"` // KiB for each silent connection
}

// A record is all that has been measured, and what could not be.
type record struct {
	Measured map[string]map[string][]measurement `json:"measured"` // by contest and peer
	Skipped  map[string]map[string]string        `json:"skipped"`
	Thrown   []string                            `json:"thrown"` // runs with errors
	Notes    []string                            `json:"notes"`  // the machine
}

// playAll measures every contest in turn and writes what came of it.
func playAll(dir string) error {
	*lean = true // nobody writes an access log
	r := record{Measured: map[string]map[string][]measurement{}, Skipped: map[string]map[string]string{}}
	if *state != "" {
		data, err := os.ReadFile(*state)
		if err == nil {
			err = json.Unmarshal(data, &r)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	stop, err := origins(dir)
	if err != nil {
		return err
	}
	defer stop()
	var chosen []contest
	for _, c := range contests() {
		if strings.HasPrefix(c.name, *only) {
			chosen = append(chosen, c)
		}
	}
	if len(chosen) == 0 {
		return fmt.Errorf("no contest begins with %q", *only)
	}
	info, err := os.Stderr.Stat()
	bar := &progress{all: len(chosen) * *rounds * len(peers()), terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
	for _, c := range chosen {
		if err := r.play(dir, c, bar); err != nil {
			return err
		}
	}
	bar.end()
	r.Notes = machine()
	if *state != "" {
		data, err := json.MarshalIndent(r, "", " ")
		if err == nil {
			err = os.WriteFile(*state, data, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return r.write(*out)
}

// origins starts what stands behind the proxies.
func origins(dir string) (stop func(), err error) {
	files := filepath.Join(dir, "files")
	if err := os.MkdirAll(files, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are nobody
		return nil, err
	}
	for _, size := range []int{130, 64 << 10, 1 << 20} {
		if err := os.WriteFile(filepath.Join(files, strconv.Itoa(size)), []byte(strings.Repeat("x", size)), 0o644); err != nil {
			return nil, err
		}
	}
	text := nginxConf(dir, "origin", originAddr, fmt.Sprintf(
		"location / { root %s; default_type text/plain; add_header Cache-Control 'max-age=3600'; } location = /130 { default_type text/plain; add_header Cache-Control 'max-age=3600'; return 200 '%s'; }",
		files, strings.Repeat("x", 130)))
	text = strings.Replace(text, "http { ", "http { sendfile on; open_file_cache max=100; ", 1)
	one, _, err := start(dir, rival{"origin", []string{"nginx", "-c", "FILE", "-e", "stderr"}, "origin.conf", text}, originAddr)
	if err != nil {
		return nil, fmt.Errorf("starting the origin: %w", err)
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		return one, nil // who needs it says so
	}
	two, _, err := start(dir, rival{"redis", []string{"redis-server", "FILE"}, "redis.conf",
		"bind 127.0.0.1\nsave \"\"\nport " + strings.TrimPrefix(redisAddr, "127.0.0.1:") + "\n"}, redisAddr)
	if err != nil {
		one()
		return nil, err
	}
	return func() { one(); two() }, nil
}

// play measures one contest, the peers in turn, round after round.
func (r *record) play(dir string, c contest, bar *progress) error {
	r.Measured[c.name], r.Skipped[c.name] = map[string][]measurement{}, map[string]string{}
	r.Thrown = slices.DeleteFunc(r.Thrown, func(s string) bool { return strings.HasPrefix(s, c.name+",") })
	for range *rounds {
		for _, p := range peers() {
			bar.step(c.name + ", " + p.name)
			if r.Skipped[c.name][p.name] != "" {
				continue
			}
			args, file, text, able := p.setup(dir, c.duty)
			why := p.lacks()
			if why == "" && !able {
				why = "it has nothing of the kind by itself"
			}
			if why == "" {
				why = p.refuses(dir, file, text)
			}
			if why != "" {
				r.Skipped[c.name][p.name] = why
				continue
			}
			m, err := run1(dir, c, rival{strings.ToLower(p.name), args, file, text})
			if err != nil {
				r.Thrown = append(r.Thrown, fmt.Sprintf("%s, %s: %v", c.name, p.name, err))
				continue
			}
			r.Measured[c.name][p.name] = append(r.Measured[c.name][p.name], m)
		}
	}
	return nil
}

// run1 starts a proxy, measures it once and stops it.
func run1(dir string, c contest, r rival) (measurement, error) {
	stop, pid, err := start(dir, r, proxyAddr)
	if err != nil {
		return measurement{}, err
	}
	defer stop()
	if c.idle > 0 {
		return silence(pid, c)
	}
	return load(pid, c)
}

func load(pid int, c contest) (measurement, error) {
	wrk := func(d time.Duration) (string, error) {
		text, err := exec.Command("wrk", "-t1", "-c", strconv.Itoa(*connections), "-d", fmt.Sprintf("%ds", max(1, int(d.Seconds()))),
			"--latency", "http://"+proxyAddr+c.path).CombinedOutput()
		if bad := badLine.FindString(string(text)); err == nil && bad != "" {
			err = errors.New("the load saw " + bad)
		}
		return string(text), err
	}
	if _, err := wrk(time.Second); err != nil {
		return measurement{}, err
	}
	userBefore, systemBefore := cpu(pid)
	text, err := wrk(*duration)
	if err != nil {
		return measurement{}, err
	}
	userAfter, systemAfter := cpu(pid)
	requests, _ := strconv.ParseFloat(sub(requestsLine, text), 64)
	rate, _ := strconv.ParseFloat(sub(rateLine, text), 64)
	if requests == 0 {
		return measurement{}, errors.New("no requests in " + text)
	}
	user, system := (userAfter-userBefore).Seconds()*1e6/requests, (systemAfter-systemBefore).Seconds()*1e6/requests
	return measurement{CPU: user + system, User: user, Rate: rate, P99: sub(p99Line, text), RSS: rss(pid)}, nil
}

// progress is one line on a terminal, and none elsewhere.
type progress struct {
	done, all int
	terminal  bool
}

func (p *progress) step(what string) {
	p.done++
	if !p.terminal {
		return
	}
	const width = 30
	full := p.done * width / p.all
	fmt.Fprintf(os.Stderr, "\r[%s%s] %d/%d %-40s", strings.Repeat("#", full), strings.Repeat(".", width-full), p.done, p.all, what)
}

func (p *progress) end() {
	if p.terminal {
		fmt.Fprintln(os.Stderr)
	}
}
