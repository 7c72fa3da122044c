package shard

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A host is one server: its pool, and what its last probe found.
type host struct {
	address string // host:port, for people
	listed  string // primary | replica, as in the config
	pool    *pgxpool.Pool
	probing *pgx.ConnConfig

	state atomic.Pointer[hostState]
	wake  chan struct{} // has the prober look at once
	ready chan struct{} // closed after the first probe
}

// A hostState is what one probe found.
type hostState struct {
	up       bool
	primary  bool
	system   int64    // of which database cluster it is
	at       Position // flushed by a primary, replayed by a replica
	lag      time.Duration
	reported error // why it is not up
}

func newHost(cfg Config, address, listed string) (*host, error) {
	pc, err := pgxpool.ParseConfig(address)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(address, "pool_max_conns=") { // pgx's own key, of one address
		pc.MaxConns = cfg.MaxConns
	}
	pc.PingTimeout = cfg.Timeout
	pc.ConnConfig.ConnectTimeout = cfg.Timeout
	// Rows are compared as text between shards, and times are UTC.
	pc.ConnConfig.RuntimeParams["timezone"] = "UTC"
	pc.ConnConfig.RuntimeParams["application_name"] = "sluice-users"
	if !cfg.Distributed {
		// A commit is acknowledged once it is in the log: tokens rely on it.
		pc.ConnConfig.RuntimeParams["synchronous_commit"] = "on"
		pc.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = "60s"
		// Keys are looked up in one way whatever they are; to plan again for each
		// costs more than the query.
		pc.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_generic_plan"
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), pc)
	if err != nil {
		return nil, err
	}
	probing := pc.ConnConfig.Copy()
	probing.RuntimeParams["application_name"] = "sluice-users-probe"
	h := &host{
		address: net.JoinHostPort(pc.ConnConfig.Host, strconv.Itoa(int(pc.ConnConfig.Port))), listed: listed,
		pool: pool, probing: probing, wake: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	h.state.Store(&hostState{reported: errors.New("not asked yet")})
	return h, nil
}

// watch probes the host until ctx ends, over a connection of its own: a pool
// that is in full use is no failure. saw is given what each probe found.
func (h *host) watch(ctx context.Context, cfg Config, saw func(*hostState)) {
	var conn *pgx.Conn
	defer func() { closeConn(conn) }()
	ticker := time.NewTicker(cfg.Probe)
	defer ticker.Stop()
	for first := true; ; first = false {
		state := &hostState{}
		if cfg.Distributed {
			state.primary, state.reported = true, h.probePlain(ctx, cfg.Timeout)
		} else {
			state.reported = h.probe(ctx, &conn, cfg.Timeout, state)
		}
		if state.up = state.reported == nil; !state.up {
			closeConn(conn)
			conn = nil
		}
		if ctx.Err() != nil {
			return
		}
		saw(state)
		if first {
			close(h.ready)
		}
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		case <-ticker.C:
		}
	}
}

// look has the prober look at once.
func (h *host) look() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func closeConn(conn *pgx.Conn) {
	if conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		_ = conn.Close(ctx)
	}
}

// probeSQL asks for role, position and timeline in one go. A replica's timeline
// is that of what it receives, or of its last restart point where it receives
// nothing.
const probeSQL = `SELECT r,
	pg_wal_lsn_diff(CASE WHEN r THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END, '0/0')::bigint,
	CASE WHEN r THEN coalesce((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()))
	ELSE ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer END,
	(SELECT system_identifier FROM pg_control_system())
	FROM (SELECT pg_is_in_recovery() AS r) role`

func (h *host) probe(ctx context.Context, conn **pgx.Conn, timeout time.Duration, into *hostState) (err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if *conn == nil {
		if *conn, err = pgx.ConnectConfig(ctx, h.probing); err != nil {
			return err
		}
	}
	var recovery bool
	var lsn *int64
	var timeline *int32
	if err := (*conn).QueryRow(ctx, probeSQL).Scan(&recovery, &lsn, &timeline, &into.system); err != nil {
		return err
	}
	into.primary = !recovery
	if lsn != nil && timeline != nil {
		into.at = Position{uint32(*timeline), uint64(*lsn)}
	}
	return nil
}

// probePlain is for databases that have no replicas to tell apart.
func (h *host) probePlain(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := h.pool.Exec(ctx, "SELECT 1")
	return err
}

// hostFault reports whether err is of the server or the way to it, rather than
// of the statement.
func hostFault(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "57": // operator intervention: 57014 is a statement that was canceled
		return pg.Code != "57014"
	case "08", "58", "XX": // connections, the system, the server itself
		return true
	}
	return pg.Code == "25006" // read only: it was a primary once
}
