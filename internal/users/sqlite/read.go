package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/users"
)

// newest is where all reads come from.
var newest = users.Source{Primary: true}

// Get returns the user of an ID.
func (s *Store) Get(ctx context.Context, id string, after users.Token) (users.User, users.Source, error) {
	if err := s.known(after); err != nil {
		return users.User{}, newest, err
	}
	u, err := s.byID(ctx, id)
	u.PasswordHash = ""
	return u, newest, failure(ctx, err)
}

func (s *Store) byID(ctx context.Context, id string) (users.User, error) {
	home, ok := s.homeOf(id)
	if !ok {
		return users.User{}, users.ErrNotFound
	}
	defer home.observe("primary", "get", time.Now())
	return scanUser(home.get.QueryRowContext(ctx, id))
}

// ByEmail returns the user who has an address.
func (s *Store) ByEmail(ctx context.Context, email string, after users.Token) (users.User, users.Source, error) {
	if err := s.known(after); err != nil {
		return users.User{}, newest, err
	}
	u, err := s.byEmail(ctx, email)
	return u, newest, failure(ctx, err)
}

func (s *Store) byEmail(ctx context.Context, email string) (users.User, error) {
	var id string
	err := s.claimOf(email).claimed.QueryRowContext(ctx, email).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return users.User{}, users.ErrNotFound
	}
	if err != nil {
		return users.User{}, err
	}
	u, err := s.byID(ctx, id)
	if err != nil {
		return u, err
	}
	// A claim may be ahead of its user, or behind.
	if norm, err := users.NormalEmail(u.Email); err != nil || norm != email {
		return users.User{}, users.ErrNotFound
	}
	return u, nil
}

// A place is where a page begins: after the user of that time and ID.
type place struct {
	created int64
	id      string
}

// parsePlace reads what place.String wrote.
func parsePlace(cursor string) (place, error) {
	created, id, ok := strings.Cut(cursor, " ")
	n, err := strconv.ParseInt(created, 10, 64)
	if !ok || err != nil || len(id) != 36 {
		return place{}, users.ErrCursor
	}
	return place{n, id}, nil
}

func (p place) String() string { return strconv.FormatInt(p.created, 10) + " " + p.id }

// List returns a page of the users that match.
func (s *Store) List(ctx context.Context, q users.Query, after users.Token) (users.Page, error) {
	if err := s.known(after); err != nil {
		return users.Page{}, err
	}
	page := users.Page{Source: newest}
	query, args, err := listQuery(q)
	if err != nil {
		return page, err
	}
	files := s.files
	for _, f := range files {
		if page.Users, err = f.list(ctx, page.Users, query, args); err != nil {
			return page, failure(ctx, err)
		}
	}
	slices.SortFunc(page.Users, func(a, b users.User) int {
		if c := b.CreatedAt.Compare(a.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	if len(page.Users) > q.Limit {
		page.Users = page.Users[:q.Limit]
		last := &page.Users[q.Limit-1]
		page.Next = place{last.CreatedAt.UnixMicro(), last.ID}.String()
	}
	return page, nil
}

// listQuery asks for one more than the page has, to know whether there is more.
func listQuery(q users.Query) (string, []any, error) {
	where, args := []string{"true"}, []any{}
	and := func(condition string, values ...any) {
		where, args = append(where, condition), append(args, values...)
	}
	if q.Cursor != "" {
		p, err := parsePlace(q.Cursor)
		if err != nil {
			return "", nil, err
		}
		and("(created_at, id) < (?, ?)", p.created, p.id)
	}
	if q.Region != "" {
		and("region = ?", q.Region)
	}
	if q.Email != "" {
		and("email_norm = ?", q.Email)
	}
	if q.Prefix != "" {
		end := q.Prefix + "\U0010ffff" // sorts after all that begins so
		and("(name_fold >= ? AND name_fold < ? OR email_norm >= ? AND email_norm < ?)", q.Prefix, end, q.Prefix, end)
	}
	query := `SELECT ` + columns + ` FROM users WHERE ` + strings.Join(where, " AND ") +
		` ORDER BY created_at DESC, id DESC LIMIT ?`
	return query, append(args, q.Limit+1), nil
}

func (f *file) list(ctx context.Context, into []users.User, query string, args []any) ([]users.User, error) {
	defer f.observe("primary", "list", time.Now())
	rows, err := f.read.QueryContext(ctx, query, args...)
	if err != nil {
		return into, err
	}
	defer rows.Close()
	for rows.Next() {
		u, err := scanUser(rows)
		if err != nil {
			return into, err
		}
		u.PasswordHash = ""
		into = append(into, u)
	}
	return into, rows.Err()
}
