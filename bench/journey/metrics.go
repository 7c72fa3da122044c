package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/bench/phases"
)

// counters are what a phase counts, summed over its processes; of what is not
// there, nothing is said.
type counters struct {
	queries      float64 // of databases, as the services count them
	transactions float64 // as PostgreSQL counts them
	edge, users  cacheCount
}

// cacheCount is what came of looking into a cache; failed is how often the cache
// was out of order.
type cacheCount struct{ hits, asked, failed float64 }

func (c cacheCount) minus(o cacheCount) cacheCount {
	return cacheCount{c.hits - o.hits, c.asked - o.asked, c.failed - o.failed}
}

// ratio is the share of hits; ok is false where nobody asked.
func (c cacheCount) ratio() (share float64, ok bool) {
	if c.asked <= 0 {
		return 0, false
	}
	return c.hits / c.asked, true
}

func (c counters) minus(o counters) counters {
	return counters{c.queries - o.queries, c.transactions - o.transactions, c.edge.minus(o.edge), c.users.minus(o.users)}
}

// cached reports whether anybody looked into a cache.
func (c counters) cached() bool { return c.edge.asked > 0 || c.users.asked > 0 }

// count asks all processes of a phase.
func count(ctx context.Context, r *phases.Running) (counters, error) {
	var c counters
	for _, p := range r.Processes {
		var err error
		switch p.Kind {
		case "postgres":
			err = c.database(ctx, p)
		case "gateway", "users":
			err = c.scrape(ctx, p)
		}
		if err != nil {
			return c, fmt.Errorf("what %s counts: %w", p.Name, err)
		}
	}
	return c, nil
}

func (c *counters) database(ctx context.Context, p *phases.Process) error {
	conn, err := pgx.Connect(ctx, p.URL("users"))
	if err != nil {
		return err
	}
	var n float64
	err = conn.QueryRow(ctx, "SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datname = 'users'").Scan(&n)
	c.transactions += n
	return errors.Join(err, conn.Close(ctx))
}

func (c *counters) scrape(ctx context.Context, p *phases.Process) error {
	address := p.Admin
	if p.Kind == "users" {
		address = p.Address // a service alone has one listener
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return c.read(resp.Body)
}

// read adds what a page of metrics says.
func (c *counters) read(page io.Reader) error {
	lines := bufio.NewScanner(page)
	for lines.Scan() {
		series, value, ok := cutLast(lines.Text())
		name, labels, _ := strings.Cut(series, "{")
		if !ok || strings.HasPrefix(series, "#") {
			continue
		}
		switch name {
		case "users_queries_total":
			c.queries += value
		case "users_cache_requests_total":
			c.users.add(label(labels, "result"), value)
		case "sluice_cache_requests_total":
			c.edge.add(label(labels, "result"), value)
		}
	}
	return lines.Err()
}

// add counts one result of a cache of ours. Writes bypass it.
func (c *cacheCount) add(result string, n float64) {
	switch result {
	case "bypass", "uncacheable", "":
		return
	case "error":
		c.failed += n
	case "hit", "stale", "local_hit", "negative_hit", "early_refresh":
		c.hits += n
	}
	c.asked += n
}

func cutLast(line string) (series string, value float64, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return "", 0, false
	}
	value, err := strconv.ParseFloat(line[i+1:], 64)
	return line[:i], value, err == nil
}

// label is a label's value, whose text has no quotes.
func label(labels, name string) string {
	_, rest, ok := strings.Cut(labels, name+`="`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
