package postgres

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

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
	from, err := decodeCursor(q.Cursor)
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
	if r.found() && r.norm.String == q.Email && matches(r, q) && from.of(shard.ID(r.id.Bytes).Bucket()).admits(r.place()) {
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
	share   int     // rows that a shard is asked for
	parts   []share // by shard
	sql     string
	args    []any
}

// A share is what one shard has sent.
type share struct {
	asked int // rows
	found []row
	bits  []byte
	short bool // it may have more that belong on the page
}

// run asks each shard for a little more than its even share of the page. Those
// that have so many of the newest that this does not do are asked once more, for
// all of the page.
func (l *listing) run(ctx context.Context) (users.Page, error) {
	even := float64(l.q.Limit) / float64(len(l.s.names))
	whole := l.q.Limit + 1
	l.parts = make([]share, len(l.s.names))
	l.scatter.Query, l.scatter.Rows = l.query, l.rows
	page := users.Page{Source: users.Source{Primary: true}}
	for _, l.share = range []int{min(whole, int(even+2.5*math.Sqrt(even))+1), whole} {
		l.sql, l.args = l.compose()
		missing, source, err := l.s.cluster.Scatter(ctx, l.scatter)
		if err != nil {
			return users.Page{}, err
		}
		page.Source.Primary = page.Source.Primary && source.Primary
		page.Source.Stale = page.Source.Stale || source.Stale
		if l.merge(&page, missing) {
			return page, nil
		}
		l.scatter.Known = l.known
	}
	return users.Page{}, errors.New("postgres: a page that cannot be filled") // cannot be
}

// known is the bits of a shard that has sent enough.
func (l *listing) known(i int) []byte {
	if l.parts[i].short {
		return nil
	}
	return l.parts[i].bits
}

func (l *listing) query(int) (string, []any) { return l.sql, l.args }

// compose writes the SQL. The bitmap is of the same snapshot as the rows, and a
// row of its own.
func (l *listing) compose() (string, []any) {
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprint("$", len(args))
	}
	text := "SELECT bits, NULL::uuid, NULL::text, NULL::text, NULL::text, NULL::json, NULL::bigint, NULL::timestamptz, NULL::timestamptz FROM bucket_bitmap"
	main := "" // of the condition
	for i := range l.from.rest {
		g := &l.from.rest[i]
		in := arg(g.in[:])
		text += l.branch(arg, g.at, mine+"get_bit("+in+"::bytea, bucket) <> 0) AND get_bit("+in+"::bytea, u.bucket) <> 0")
		main += " AND get_bit(" + in + "::bytea, %sbucket) = 0"
	}
	if main != "" {
		main = mine + "true" + strings.ReplaceAll(main, "%s", "") + ")" + strings.ReplaceAll(main, "%s", "u.")
	}
	return text + l.branch(arg, l.from.main, main), args
}

// mine begins a condition on whether the shard has any of some buckets. Where it
// has none, nothing is looked for, of which all would have to be looked through.
const mine = "EXISTS (SELECT FROM bucket_owner WHERE state IN ('active', 'copying', 'fenced') AND "

// branch finds the users behind p on whom a condition holds.
func (l *listing) branch(arg func(any) string, p place, where string) string {
	from := "users u"
	if where != "" {
		where += " AND "
	}
	where += "get_bit((SELECT bits FROM bucket_bitmap), u.bucket) <> 0" // of = 1 the planner expects few
	if !p.begins() {
		where += " AND (u.created_at, u.id) < (" + arg(p.at) + ", " + arg(uuid(p.id)) + ")"
	}
	if l.q.Region != "" {
		where += " AND u.region = " + arg(l.q.Region)
	}
	if l.q.Prefix != "" {
		low, high := arg(l.q.Prefix), arg(l.q.Prefix+"\U0010FFFF")
		name := "(name_key >= " + low + " AND name_key < " + high + ")"
		email := "(email_norm >= " + low + " AND email_norm < " + high + ")"
		if utf8.RuneCountInString(l.q.Prefix) < 2 {
			where += " AND (" + name + " OR " + email + ")" // many: the newest are looked through
		} else {
			from = "(WITH hit AS MATERIALIZED (SELECT * FROM users WHERE " + name +
				" UNION ALL SELECT * FROM users WHERE " + email + " AND NOT " + name + ") SELECT * FROM hit) u"
		}
	}
	// The limit is no parameter: a plan for any limit sorts the table.
	return " UNION ALL (SELECT NULL, " + shown + " FROM " + from + " WHERE " + where +
		" ORDER BY u.created_at DESC, u.id DESC LIMIT " + strconv.Itoa(l.share) + ")"
}

func (l *listing) rows(i int, rows pgx.Rows) ([]byte, error) {
	part := &l.parts[i]
	*part = share{asked: l.share, found: make([]row, 0, min(l.share, 64))}
	sorted := true
	for rows.Next() {
		var r row
		bits, err := r.scanShown(rows)
		if err != nil {
			return nil, err
		}
		if bits != nil {
			part.bits = bits
			continue
		}
		if n := len(part.found); n > 0 && !part.found[n-1].place().before(r.place()) {
			sorted = false // an order that the plan need not keep
		}
		part.found = append(part.found, r)
	}
	if !sorted {
		slices.SortFunc(part.found, func(a, b row) int {
			if a.place().before(b.place()) {
				return -1
			}
			return 1
		})
	}
	if len(part.found) > l.share { // of several branches
		part.found = part.found[:l.share]
	}
	return part.bits, rows.Err()
}

// merge makes the page. It reports false where shards may have more users that
// belong on it than they were asked for, and marks them.
func (l *listing) merge(page *users.Page, missing []string) bool {
	page.Users, page.Missing = make([]users.User, 0, l.q.Limit), missing
	for i, name := range l.s.names {
		if slices.Contains(missing, name) {
			l.parts[i] = share{}
		}
	}
	next := make([]int, len(l.parts))
	last := place{}
	for len(page.Users) < l.q.Limit {
		i := l.newest(next)
		if i < 0 {
			break
		}
		r := &l.parts[i].found[next[i]]
		next[i]++
		page.Users = append(page.Users, r.user())
		last = r.place()
	}
	more, enough := len(missing) > 0, true
	for i := range l.parts {
		part := &l.parts[i]
		part.short = part.asked > 0 && next[i] == part.asked && part.asked <= l.q.Limit
		more = more || next[i] < len(part.found)
		enough = enough && !part.short
	}
	if !enough {
		return false
	}
	if more {
		page.Next = l.from.beyond(last, l.answered()).encode()
	}
	return true
}

// newest is the shard whose next user comes first; -1 if there is none.
func (l *listing) newest(next []int) int {
	best := -1
	for i := range l.parts {
		found := l.parts[i].found
		if next[i] < len(found) && (best < 0 || found[next[i]].place().before(l.parts[best].found[next[best]].place())) {
			best = i
		}
	}
	return best
}

// answered is the buckets of which the page has all that belongs on it.
func (l *listing) answered() *buckets {
	var all buckets
	for i := range l.parts {
		if bits := l.parts[i].bits; len(bits) == len(all) {
			all.add((*buckets)(bits))
		}
	}
	return &all
}
