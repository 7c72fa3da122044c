package main

import (
	"fmt"
	"strings"
	"time"
)

// Which phases the article's figures are about.
const (
	before = "2-database"
	cached = "3-cache"
	first  = "1-single"
	last   = "final"
)

const wanted = 50_000 // requests/s of the whole

// find is a phase that was measured.
func (r *report) find(name string) (outcome, bool) {
	for _, o := range r.outcomes {
		if o.name == name && o.why == "" {
			return o, true
		}
	}
	return outcome{}, false
}

// article puts the article's figures beside ours, and the goals.
func (r *report) article(b *strings.Builder) {
	b.WriteString("## The article's figures beside these\n\n| | the article | here, with writes | here, reads alone |\n|---|--:|--:|--:|\n")
	r.compare(b, before, cached, []comparison{
		{"caching alone: response time (mean)", "4.4 × shorter", func(a, z part) string { return times(ratio(a.mean, z.mean)) + " shorter" }},
		{"caching alone: throughput", "4 ×", func(a, z part) string { return times(z.perSecond / max(a.perSecond, 1e-9)) }},
		{"caching alone: database load (queries)", "−70 %", func(a, z part) string { return change(a.queries, z.queries) }},
		{"caching alone: database CPU a request", "", func(a, z part) string { return change(a.cpu("database").Seconds(), z.cpu("database").Seconds()) }},
	})
	r.compare(b, first, last, []comparison{
		{"whole journey: p95", "16.7 × shorter", func(a, z part) string { return times(ratio(a.p95, z.p95)) + " shorter" }},
		{"whole journey: throughput", "500 ×", func(a, z part) string { return times(z.perSecond / max(a.perSecond, 1e-9)) }},
		{"whole journey: database CPU a request", "3 × less", func(a, z part) string { return times(ratio(a.cpu("database"), z.cpu("database"))) + " less" }},
	})
	fmt.Fprintf(b, "\nCaching alone is %s beside %s, the whole is %s beside %s. The article adds machines as it grows; here every phase has the same %d cores, so that more processes share what there is, and what a phase gains is work that it does not do.\n\n", cached, before, last, first, r.cores())
	r.goals(b)
}

func (r *report) cores() int {
	for _, o := range r.outcomes {
		if o.why == "" {
			return o.mixed.cores.Total
		}
	}
	return 0
}

// A comparison is one figure of the article.
type comparison struct {
	what, theirs string
	ours         func(from, to part) string
}

func (r *report) compare(b *strings.Builder, from, to string, list []comparison) {
	a, okA := r.find(from)
	z, okZ := r.find(to)
	for _, c := range list {
		mixed, reads := "not measured", "–"
		if okA && okZ {
			mixed = c.ours(a.mixed, z.mixed)
			if a.reads.requests > 0 && z.reads.requests > 0 {
				reads = c.ours(a.reads, z.reads)
			}
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", c.what, c.theirs, mixed, reads)
	}
}

// goals says which of the project's own goals are met.
func (r *report) goals(b *strings.Builder) {
	b.WriteString("## Goals\n\n| goal | here | |\n|---|--:|---|\n")
	line := func(goal, here string, met bool) {
		word := "missed"
		if met {
			word = "met"
		}
		fmt.Fprintf(b, "| %s | %s | %s |\n", goal, here, word)
	}
	a, okA := r.find(before)
	z, okZ := r.find(cached)
	if okA && okZ {
		n := z.mixed.perSecond / max(a.mixed.perSecond, 1e-9)
		line("caching alone ≥ 10 × throughput", times(n), n >= 10)
		saved := 1 - z.mixed.queries/max(a.mixed.queries, 1e-9)
		line("caching alone ≥ −90 % database queries", change(a.mixed.queries, z.mixed.queries), saved >= 0.9)
	}
	if o, ok := r.find(last); ok {
		line("the whole ≥ "+thousands(wanted)+" requests/s", thousands(o.mixed.perSecond), o.mixed.perSecond >= wanted)
		line("the whole: p95 < 10 ms", millis(o.mixed.p95)+" ms", o.mixed.p95 < 10*time.Millisecond)
	}
	b.WriteString("\n")
	r.afford(b)
	if okA && okZ && a.mixed.requests > 0 && z.mixed.requests > 0 {
		writes := float64(z.mixed.writes) / float64(z.mixed.requests)
		fmt.Fprintf(b, "Every write asks the database, whatever is cached: with %.0f %% of them, %s of the %s queries per 1,000 requests of %s are writes', and no cache of reads goes below.\n",
			100*writes, thousands(r.writeQueries(a)), thousands(a.mixed.queries), before)
	}
}

// afford says what the last goal has to spend, and what that goes for: where all
// cores are busy throughput is CPU a request.
func (r *report) afford(b *strings.Builder) {
	o, ok := r.find(last)
	if !ok || o.reads.requests == 0 || o.mixed.writes == 0 {
		return
	}
	writes := float64(o.mixed.writes) / float64(o.mixed.requests)
	read := o.reads.cpu("")
	write := time.Duration((o.mixed.cpu("").Seconds() - (1-writes)*read.Seconds()) / writes * float64(time.Second))
	fmt.Fprintf(b, "%d cores have %s ms of CPU for 1,000 of %s requests/s, for everybody and the client. 1,000 reads alone cost %s ms in %s, of which the client has %s; 1,000 writes, with the reads that no cache answers after them, %s ms.\n\n",
		r.cores(), short(float64(r.cores())*1e6/wanted), thousands(wanted), millis(read), last, millis(o.reads.cpu("client")), millis(write))
}

// writeQueries is how many queries per 1,000 requests writes make in a phase
// without a cache: what reads alone do not.
func (r *report) writeQueries(o outcome) float64 {
	if o.reads.requests == 0 {
		return 1000 * float64(o.mixed.writes) / float64(o.mixed.requests)
	}
	reads := float64(o.mixed.requests-o.mixed.writes) / float64(o.mixed.requests)
	return o.mixed.queries - reads*o.reads.queries
}

func ratio(a, z time.Duration) float64 { return a.Seconds() / max(z.Seconds(), 1e-9) }

func times(n float64) string { return short(n) + " ×" }

// change is by how much a figure fell, in percent.
func change(from, to float64) string {
	if from <= 0 {
		return "–"
	}
	return strings.Replace(fmt.Sprintf("%+.0f %%", 100*(to/from-1)), "-", "−", 1)
}
