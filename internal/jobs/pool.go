package jobs

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// PoolConfig is for a pool that leads to whichever of a shard's servers is the
// primary: a replica that has been promoted is found by the next connection, and
// connections do not outlast a server's end. The servers differ in nothing but
// their host and port.
func PoolConfig(primary string, replicas []string) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(primary)
	if err != nil {
		return nil, err
	}
	for _, url := range replicas {
		other, err := pgx.ParseConfig(url)
		if err != nil {
			return nil, err
		}
		cfg.ConnConfig.Fallbacks = append(cfg.ConnConfig.Fallbacks,
			&pgconn.FallbackConfig{Host: other.Host, Port: other.Port, TLSConfig: other.TLSConfig})
	}
	cfg.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	return cfg, nil
}
