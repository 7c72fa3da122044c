package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users"
)

// List implements users.Store.
func (s *Store) List(ctx context.Context, q users.Query, after users.Token) (users.Page, error) {
	at, newest, err := s.position(after)
	if err != nil {
		return users.Page{}, err
	}
	from, err := decodeCursor(q.Cursor, s.names)
	if err != nil {
		return users.Page{}, err
	}
	if q.Email != "" {
		return s.listOne(ctx, q, from, at, newest)
	}
	l := &listing{s: s, q: q, from: from, scatter: shard.Scatter{Op: "list", After: at, Newest: newest, Partial: q.Partial}}
	page, err := l.run(ctx)
	return page, fail(err)
}

// listOne lists the user of an address, who is looked up.
func (s *Store) listOne(ctx context.Context, q users.Query, from cursor, at shard.Token, newest bool) (users.Page, error) {
	r, source, err := s.byEmail(ctx, q.Email, at, newest)
	if err != nil {
		return users.Page{}, fail(err)
	}
	page := users.Page{Users: []users.User{}, Source: source}
	if r.found() && r.norm.String == q.Email && matches(r, q) && from[0].before(r.place()) || from[0].begins() && r.found() && r.norm.String == q.Email && matches(r, q) {
		page.Users = append(page.Users, r.user())
	}
	return page, nil
}

func matches(r *row, q users.Query) bool {
	return (q.Region == "" || r.region.String == q.Region) &&
		(strings.HasPrefix(nameKey(r.name.String), q.Prefix) || strings.HasPrefix(r.norm.String, q.Prefix))
}

func (r *row) place() place { return place{r.created.Time.UTC(), r.id.Bytes} }

// A listing is one page on its way.
type listing struct {
	s       *Store
	q       users.Query
	from    cursor
	scatter shard.Scatter
	share   int     // rows that each shard is asked for
	found   [][]row // by shard, in order
}

// run asks each shard for a little more than its even share of the page; where
// one has so many of the newest that this does not do, for all of the page.
func (l *listing) run(ctx context.Context) (users.Page, error) {
	even := float64(l.q.Limit) / float64(len(l.s.names))
	whole := l.q.Limit + 1
	for _, l.share = range []int{min(whole, int(even+3*math.Sqrt(even))+2), whole} {
		l.found = make([][]row, len(l.s.names))
		l.scatter.Query, l.scatter.Rows = l.query, l.rows
		missing, source, err := l.s.cluster.Scatter(ctx, l.scatter)
		if err != nil {
			return users.Page{}, err
		}
		if page, ok := l.merge(missing); ok {
			page.Source = users.Source(source)
			return page, nil
		}
	}
	return users.Page{}, errors.New("postgres: a page that cannot be filled") // cannot be
}

// query is the SQL for one shard. The bitmap is of the same snapshot as the rows,
// and comes with the first of them.
func (l *listing) query(i int) (string, []any) {
	args := []any{l.share}
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprint("$", len(args))
	}
	where := "get_bit(m.bits, u.bucket) = 1"
	if p := l.from[i]; !p.begins() {
		where += " AND (u.created_at, u.id) < (" + arg(p.at) + ", " + arg(uuid(p.id)) + ")"
	}
	if l.q.Region != "" {
		where += " AND u.region = " + arg(l.q.Region)
	}
	if l.q.Prefix != "" {
		low, high := arg(l.q.Prefix), arg(l.q.Prefix+"\U0010FFFF")
		where += " AND (u.name_key >= " + low + " AND u.name_key < " + high + " OR u.email_norm >= " + low + " AND u.email_norm < " + high + ")"
	}
	return `SELECT CASE WHEN row_number() OVER () = 1 THEN m.bits END, u.* FROM bucket_bitmap m LEFT JOIN LATERAL (
		SELECT ` + columns + " FROM users u WHERE " + where + " ORDER BY u.created_at DESC, u.id DESC LIMIT $1) u ON true", args
}

func (l *listing) rows(i int, rows pgx.Rows) (bits []byte, err error) {
	l.found[i] = l.found[i][:0]
	for rows.Next() {
		var first []byte
		var r row
		if err := rows.Scan(r.fields(&first)...); err != nil {
			return nil, err
		}
		if first != nil {
			bits = first
		}
		if r.found() {
			l.found[i] = append(l.found[i], r)
		}
	}
	slices.SortFunc(l.found[i], func(a, b row) int {
		if a.place().before(b.place()) {
			return -1
		}
		return 1
	})
	return bits, rows.Err()
}

// merge makes the page. It reports false where a shard may have more users that
// belong on it than it was asked for.
func (l *listing) merge(missing []string) (users.Page, bool) {
	page := users.Page{Users: []users.User{}, Missing: missing}
	next := make([]int, len(l.found))
	last := place{}
	for len(page.Users) < l.q.Limit {
		i := l.newest(next)
		if i < 0 {
			break
		}
		r := &l.found[i][next[i]]
		if next[i]++; next[i] == len(l.found[i]) && l.full(i) {
			return page, false
		}
		page.Users = append(page.Users, r.user())
		last = r.place()
	}
	more := len(missing) > 0
	for i := range l.found {
		more = more || next[i] < len(l.found[i])
	}
	if more {
		page.Next = l.beyond(last, missing).encode(l.s.names)
		if page.Next == "" { // the beginning once more: nobody answered yet
			page.Next = ";" + missing[0] + "="
		}
	}
	return page, true
}

// full reports whether shard i may have more than it has sent.
func (l *listing) full(i int) bool { return len(l.found[i]) == l.share && l.share <= l.q.Limit }

// newest is the shard whose next user comes first; -1 if there is none.
func (l *listing) newest(next []int) int {
	best := -1
	for i, rows := range l.found {
		if next[i] < len(rows) && (best < 0 || rows[next[i]].place().before(l.found[best][next[best]].place())) {
			best = i
		}
	}
	return best
}

// beyond is the cursor after a page that ends at last: shards that were missing
// stay where they were.
func (l *listing) beyond(last place, missing []string) cursor {
	c := slices.Clone(l.from)
	for i, name := range l.s.names {
		if !slices.Contains(missing, name) {
			c[i] = c[i].further(last)
		}
	}
	return c
}
