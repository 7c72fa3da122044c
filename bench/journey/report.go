package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A report is what is written at the end.
type report struct {
	when     time.Time
	machine  string
	versions string // of what else took part
	setting  setting
	outcomes []outcome
}

// setting is what the reader has to know of the load.
type setting struct {
	users, connections int
	writes, skew       float64
	warm, measured     time.Duration
	settled, reads     bool
	patched            bool
	readsTime          time.Duration
}

// charts are the pictures, by file name.
func (r *report) charts() map[string]string {
	pick := func(values func(p part) []float64) []row {
		var rows []row
		for _, o := range r.outcomes {
			row := row{label: o.name}
			if o.why == "" {
				row.values = values(o.mixed)
			}
			rows = append(rows, row)
		}
		return rows
	}
	ms := func(d time.Duration) float64 { return d.Seconds() * 1000 }
	throughput := chart{title: "Requests a second", format: thousands,
		rows: pick(func(p part) []float64 { return []float64{p.perSecond} })}
	latency := chart{title: "Latency in ms, with the 99th percentile at the right", series: []string{"p50", "p95", "p99"}, format: short,
		rows: pick(func(p part) []float64 { return []float64{ms(p.p50), ms(p.p95), ms(p.p99)} })}
	queries := chart{title: "Database queries per 1,000 requests", format: thousands,
		rows: pick(func(p part) []float64 { return []float64{p.queries} })}
	cpu := chart{title: "CPU ms per 1,000 requests, by whom", series: roles, format: short,
		rows: pick(func(p part) []float64 {
			var list []float64
			for _, role := range roles {
				list = append(list, ms(p.cpu(role)))
			}
			return list
		})}
	return map[string]string{
		"throughput.svg": throughput.bars(), "latency.svg": latency.dots(),
		"queries.svg": queries.bars(), "cpu.svg": cpu.bars(),
	}
}

// write puts the report and its pictures into a folder.
func (r *report) write(dir string) error {
	for name, text := range r.charts() {
		if err := os.WriteFile(filepath.Join(dir, "journey-"+name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "JOURNEY.md"), []byte(r.markdown()), 0o644)
}

func (r *report) markdown() string {
	var b strings.Builder
	s := r.setting
	fmt.Fprintf(&b, "# The journey\n\nWritten by `make journey` on %s. One machine runs everything, the client too: %s; %s.\n\n",
		r.when.UTC().Format("2006-01-02"), r.machine, r.versions)
	verb := "PUT"
	if s.patched {
		verb = "PATCH"
	}
	fmt.Fprintf(&b, "The load is the same for every phase: %s users, %.0f %% `GET /api/users/ID` and %.0f %% `%s`, users by zipf %.2f, %d keep-alive connections that each wait for their answer (a closed loop), the same seeded sequence. %s to warm up, %s measured; where there are caches, every user is read once in between, as a cache that has run for a day has had the time for. ",
		thousands(float64(s.users)), 100*(1-s.writes), 100*s.writes, verb, s.skew, s.connections, seconds(s.warm), seconds(s.measured))
	if s.settled {
		b.WriteString("PostgreSQL does not force commits to the disk (`-settled`). ")
	} else {
		b.WriteString("PostgreSQL forces every commit to the disk. ")
	}
	b.WriteString("Access logs are off. Every answer is checked: its status, and that it is of the user who was asked for; a phase in which one was wrong has no figures. In a closed loop latency is connections over throughput, so that the two are one measurement.\n\n")
	r.table(&b)
	b.WriteString("![Requests a second](journey-throughput.svg)\n\n![Latency](journey-latency.svg)\n\n![CPU per 1,000 requests](journey-cpu.svg)\n\n![Database queries per 1,000 requests](journey-queries.svg)\n\n")
	r.details(&b)
	r.article(&b)
	return b.String()
}

func (r *report) table(b *strings.Builder) {
	b.WriteString("| phase | requests/s | p50 ms | p95 ms | p99 ms | DB queries / 1,000 | DB CPU ms / 1,000 | CPU ms / 1,000 | users cache | edge cache | limited by |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|\n")
	for _, o := range r.outcomes {
		if o.why != "" {
			fmt.Fprintf(b, "| %s | not measured: %s |||||||||\n", o.name, oneLine(o.why))
			continue
		}
		p := o.mixed
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", o.name, thousands(p.perSecond),
			millis(p.p50), millis(p.p95), millis(p.p99), thousands(p.queries), millis(p.cpu("database")), millis(p.cpu("")),
			percent(p.users), percent(p.edge), p.cores.limit())
	}
	b.WriteString("\n")
	for _, o := range r.outcomes {
		if o.why == "" {
			fmt.Fprintf(b, "- **%s**: %s; %d processes.\n", o.name, o.title, o.processes)
		}
	}
	b.WriteString("\n")
}

// details are who uses the CPU, what databases count themselves, and reads alone.
func (r *report) details(b *strings.Builder) {
	b.WriteString("## Whose CPU, in cores\n\n| phase |")
	for _, role := range roles {
		fmt.Fprintf(b, " %s |", role)
	}
	b.WriteString(" others | machine busy | busiest process | PostgreSQL transactions / 1,000 |\n|---|" + strings.Repeat("--:|", len(roles)+2) + "---|--:|\n")
	for _, o := range r.outcomes {
		if o.why != "" {
			continue
		}
		c := o.mixed.cores
		fmt.Fprintf(b, "| %s |", o.name)
		for _, role := range roles {
			fmt.Fprintf(b, " %.2f |", c.Role[role])
		}
		who, n := largest(c.Process)
		fmt.Fprintf(b, " %.2f | %.0f %% | %s, %.2f | %s |\n", c.others(), 100*(c.Machine+c.Stolen)/float64(c.Total), who, n, thousands(o.mixed.transactions))
	}
	b.WriteString("\nWhere a gateway has the service in it, they are one process, here the gateway. Transactions are PostgreSQL's own count, as a cross-check: its replicas' and the probes of the service are among them.\n\n")
	if noisy := r.noisy(); noisy != "" {
		fmt.Fprintf(b, "**The machine was not quiet** in %s: others used more than a tenth of it.\n\n", noisy)
	}
	if !r.setting.reads {
		return
	}
	fmt.Fprintf(b, "## Reads alone\n\nAfter it, %s of the same without writes.\n\n| phase | requests/s | p50 ms | p95 ms | p99 ms | DB queries / 1,000 | DB CPU ms / 1,000 | CPU ms / 1,000 | users cache | edge cache |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n", seconds(r.setting.readsTime))
	for _, o := range r.outcomes {
		if p := o.reads; o.why == "" && p.requests > 0 {
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", o.name, thousands(p.perSecond), millis(p.p50), millis(p.p95), millis(p.p99),
				thousands(p.queries), millis(p.cpu("database")), millis(p.cpu("")), percent(p.users), percent(p.edge))
		}
	}
	b.WriteString("\n")
}

func (r *report) noisy() string {
	var names []string
	for _, o := range r.outcomes {
		if c := o.mixed.cores; o.why == "" && c.others()+c.Stolen > 0.1*float64(c.Total) {
			names = append(names, o.name)
		}
	}
	return strings.Join(names, ", ")
}

// oneLine is a text as a cell of a table has it, cut where it is long.
func oneLine(s string) string {
	s = strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "/")
	if r := []rune(s); len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return s
}

// thousands writes a number with commas, and with digits where it is small.
func thousands(n float64) string {
	if math.Abs(n) < 100 {
		return short(n)
	}
	text := fmt.Sprintf("%.0f", n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// short writes three significant digits.
func short(n float64) string {
	switch a := math.Abs(n); {
	case a >= 99.95 || a == 0:
		return fmt.Sprintf("%.0f", n)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", n)
	case a >= 0.0995:
		return fmt.Sprintf("%.2f", n)
	}
	return fmt.Sprintf("%.3f", n)
}

func millis(d time.Duration) string { return short(d.Seconds() * 1000) }

func seconds(d time.Duration) string { return fmt.Sprintf("%.3g s", d.Seconds()) }

func percent(c cacheCount) string {
	share, ok := c.ratio()
	if !ok {
		return "–"
	}
	if c.failed > 0 {
		return fmt.Sprintf("%.1f %% (%.1f %% errors)", 100*share, 100*c.failed/c.asked)
	}
	return fmt.Sprintf("%.1f %%", 100*share)
}
