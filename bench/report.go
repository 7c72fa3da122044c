package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// machine says what was measured on.
func machine() []string {
	model := "unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, ok := strings.CutPrefix(line, "model name"); ok {
				model = strings.TrimLeft(strings.TrimSpace(name), ": \t")
				break
			}
		}
	}
	kernel := "unknown"
	var u syscall.Utsname
	if syscall.Uname(&u) == nil {
		var b []byte
		for _, c := range u.Release {
			if c == 0 {
				break
			}
			b = append(b, byte(c))
		}
		kernel = string(b)
	}
	notes := []string{fmt.Sprintf("%s, %d processors, Linux %s, %s", model, runtime.NumCPU(), kernel, runtime.Version())}
	for _, p := range peers() {
		if p.lacks() == "" {
			notes = append(notes, fmt.Sprintf("%s: %s (%s)", p.name, p.speaks(), p.fair))
		}
	}
	return notes
}

// middle is the measurement whose cost is the median.
func middle(all []measurement) measurement {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b measurement) int {
		return cmp.Or(cmp.Compare(a.CPU, b.CPU), cmp.Compare(a.PerIdle, b.PerIdle))
	})
	return all[len(all)/2]
}

// write writes RESULTS.md and results.svg.
func (r *record) write(dir string) error {
	var b bytes.Buffer
	b.WriteString("# Sluice beside the others\n\nWritten by `make bench`; do not edit.\n\n![CPU time a request](results.svg)\n\n")
	for _, c := range contests() {
		if r.Measured[c.name] != nil {
			r.table(&b, c)
		}
	}
	fmt.Fprintf(&b, "## What makes it fair\n\nOrigin (nginx), load (wrk, %d connections) and proxy share the machine; the proxies take turns, so that what the machine does besides falls on all of them; the median of all rounds counts. CPU is that of the proxy's own processes from /proc, a request. All speak HTTP/1.1 with kept connections on both sides.\n\n", *connections)
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "- %s\n", note)
	}
	b.WriteString("\n## Thrown away\n\n")
	if len(r.Thrown) == 0 {
		b.WriteString("Nothing: no run saw an error.\n")
	}
	for _, t := range r.Thrown {
		fmt.Fprintf(&b, "- %s\n", t)
	}
	if err := os.WriteFile(filepath.Join(dir, "RESULTS.md"), b.Bytes(), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "results.svg"), r.chart(), 0o644)
}

func (r *record) table(b *bytes.Buffer, c contest) {
	rounds := 0
	for _, all := range r.Measured[c.name] {
		rounds = max(rounds, len(all))
	}
	fmt.Fprintf(b, "## %s\n\n", strings.ToUpper(c.name[:1])+c.name[1:])
	if c.idle > 0 {
		fmt.Fprintf(b, "%d connections that have asked once; median of %d rounds.\n\n| | KiB a connection | RSS MiB |\n|---|---|---|\n", c.idle, rounds)
	} else {
		fmt.Fprintf(b, "Median of %d rounds.\n\n| | CPU µs/request | outside the kernel | requests/s | p99 | RSS MiB | CPU, × Sluice |\n|---|---|---|---|---|---|---|\n", rounds)
	}
	base := 0.0
	if ours := r.Measured[c.name]["Sluice"]; len(ours) > 0 {
		base = middle(ours).CPU
	}
	for _, p := range peers() {
		all := r.Measured[c.name][p.name]
		switch why := r.Skipped[c.name][p.name]; {
		case why != "":
			fmt.Fprintf(b, "| %s | skipped: %s |\n", p.name, why)
		case len(all) == 0:
			fmt.Fprintf(b, "| %s | every run had errors |\n", p.name)
		case c.idle > 0:
			m := middle(all)
			fmt.Fprintf(b, "| %s | %.1f | %.0f |\n", p.name, m.PerIdle, float64(m.RSS)/1024)
		default:
			m, ratio := middle(all), "–"
			if base > 0 {
				ratio = fmt.Sprintf("%.2f", m.CPU/base)
			}
			fmt.Fprintf(b, "| %s | %.1f | %.1f | %.0f | %s | %.0f | %s |\n", p.name, m.CPU, m.User, m.Rate, m.P99, float64(m.RSS)/1024, ratio)
		}
	}
	b.WriteString("\n")
}

// chart is the cost of every contest, each scaled to its dearest.
func (r *record) chart() []byte {
	const left, width, bar, gap = 150, 420, 16, 26
	var b bytes.Buffer
	y := 10
	for _, c := range contests() {
		if c.idle > 0 || len(r.Measured[c.name]) == 0 {
			continue
		}
		most := 0.0
		for _, all := range r.Measured[c.name] {
			most = max(most, middle(all).CPU)
		}
		fmt.Fprintf(&b, `<text x="10" y="%d" font-weight="bold">%s, CPU µs a request</text>`+"\n", y+12, html.EscapeString(c.name))
		y += 20
		for _, p := range peers() {
			all := r.Measured[c.name][p.name]
			if len(all) == 0 {
				continue
			}
			m := middle(all)
			fill := "#9aa7b5"
			if p.name == "Sluice" {
				fill = "#0b5cad"
			}
			w := max(1, int(m.CPU/most*width))
			fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect x="%d" y="%d" width="%d" height="%d" fill="%s"/><text x="%d" y="%d">%.1f</text>`+"\n",
				left-8, y+12, p.name, left, y, w, bar, fill, left+w+6, y+12, m.CPU)
			y += bar + 4
		}
		y += gap - bar
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" width="660" height="%d" font-family="system-ui, sans-serif" font-size="12"><rect width="100%%" height="100%%" fill="#fff"/>`+"\n%s</svg>\n", y+10, b.String())
}
