// Package redislink opens the client of Redis that gateways and services share
// things through, by the `redis` of a configuration.
package redislink

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/sluice-edge/sluice/internal/config"
)

// Settings say where gateways keep what they share.
type Settings struct {
	Addresses    []string      `yaml:"addresses" required:"true" doc:"host:port of the server, of the sentinels of master_name, or of some nodes of a cluster"`
	MasterName   string        `yaml:"master_name" doc:"the addresses are sentinels, and this is the master that they watch"`
	Cluster      bool          `yaml:"cluster" default:"false" doc:"the addresses are nodes of a Redis Cluster; without master_name, more than one are in any case"`
	Username     string        `yaml:"username" doc:"for ACLs; empty: the default user"`
	PasswordFile string        `yaml:"password_file" doc:"file of the password; empty: none"`
	DB           int           `yaml:"db" min:"0" max:"1000000" default:"0" doc:"number of the database; a cluster has only 0"`
	TLS          *TLS          `yaml:"tls" doc:"speak TLS: true, or how its certificate is verified"`
	Timeout      time.Duration `yaml:"timeout" min:"1ms" max:"10s" default:"50ms" doc:"to connect, and for each command; no request waits longer for Redis"`
}

// TLS says whether Redis is spoken to over TLS, and whom to believe.
type TLS struct {
	Enabled    bool   `yaml:"enabled" default:"true" doc:"false: plaintext"`
	CAFile     string `yaml:"ca_file" doc:"PEM file of the authorities to trust; empty: the system's"`
	ServerName string `yaml:"server_name" doc:"name to verify; empty: the host of the address"`
}

// UnmarshalYAMLBool reads the short form.
func (t *TLS) UnmarshalYAMLBool(on bool) error {
	*t = TLS{Enabled: on}
	return nil
}

// UnmarshalText refuses what a word could mean.
func (t *TLS) UnmarshalText(text []byte) error {
	return fmt.Errorf("%q is neither true, false nor a mapping", text)
}

// SetDefaults speaks TLS where the key has more to say than false.
func (t *TLS) SetDefaults() { t.Enabled = true }

// SetDefaults is what a file that says nothing more has.
func (r *Settings) SetDefaults() { r.Timeout = 50 * time.Millisecond }

// Validate says which keys exclude each other.
func (r *Settings) Validate() error {
	var all []error
	fault := func(key string, err error) { all = append(all, config.At(key, err)) }
	for i, address := range r.Addresses {
		if host, _, _ := net.SplitHostPort(address); host == "" || !isPort(address) {
			fault(config.Join("addresses", i), fmt.Errorf("%q is not host:port", address))
		}
	}
	if r.Cluster && r.MasterName != "" {
		fault("cluster", errors.New("cluster and master_name exclude each other"))
	}
	if r.isCluster() && r.DB != 0 {
		fault("db", errors.New("a cluster has only the database 0"))
	}
	return errors.Join(all...)
}

func (r *Settings) isCluster() bool {
	return r.MasterName == "" && (r.Cluster || len(r.Addresses) > 1)
}

// isPort reports whether an address has a port.
func isPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil || port == "" {
		return false
	}
	_, err = net.LookupPort("tcp", port)
	return err == nil
}

// A Link is a client of Redis and the settings that it was opened with. A reload
// that does not change them keeps the link.
type Link struct {
	redis.UniversalClient
	settings string
}

// Open returns the link for the settings: running, where it is that, or a new
// one. It connects to nothing yet.
func (r *Settings) Open(running *Link) (*Link, error) {
	o, err := r.options()
	if err != nil {
		return nil, err
	}
	if running != nil && running.settings == o.settings {
		return running, nil
	}
	return &Link{redis.NewUniversalClient(&o.UniversalOptions), o.settings}, nil
}

type options struct {
	redis.UniversalOptions
	settings string // all of it, to compare
}

func (r *Settings) options() (*options, error) {
	o := &options{UniversalOptions: redis.UniversalOptions{
		Addrs: slices.Clone(r.Addresses), MasterName: r.MasterName, IsClusterMode: r.isCluster(),
		Username: r.Username, DB: r.DB,
		DialTimeout: r.Timeout, ReadTimeout: r.Timeout, WriteTimeout: r.Timeout, PoolTimeout: r.Timeout,
		ContextTimeoutEnabled: true,
		// Whoever asks knows whether it may be asked twice; the client does not.
		MaxRetries: -1, DialerRetries: 1,
		// Nothing of RESP3 is used, and its handshake is a round trip more.
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PipelinePoolSize:         -1,
		ConnMaxIdleTime:          5 * time.Minute,
	}}
	var authorities []byte
	serverName := ""
	if r.PasswordFile != "" {
		password, err := os.ReadFile(r.PasswordFile)
		if err != nil {
			return nil, config.At("password_file", cannotRead(r.PasswordFile, err))
		}
		if o.Password = string(bytes.TrimSpace(password)); o.Password == "" {
			return nil, config.At("password_file", fmt.Errorf("%s is empty", r.PasswordFile))
		}
	}
	if r.TLS != nil && r.TLS.Enabled {
		serverName = r.TLS.ServerName
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
		if r.TLS.CAFile != "" {
			var err error
			if authorities, err = os.ReadFile(r.TLS.CAFile); err != nil {
				return nil, config.At("tls.ca_file", cannotRead(r.TLS.CAFile, err))
			}
			o.TLSConfig.RootCAs = x509.NewCertPool()
			if !o.TLSConfig.RootCAs.AppendCertsFromPEM(authorities) {
				return nil, config.At("tls.ca_file", fmt.Errorf("%s holds no certificate", r.TLS.CAFile))
			}
		}
	}
	o.settings = fmt.Sprintf("%q", []any{
		r.Addresses, r.MasterName, r.isCluster(), r.Username, o.Password, r.DB, r.Timeout,
		r.TLS != nil && r.TLS.Enabled, serverName, string(authorities),
	})
	return o, nil
}

// cannotRead says why path cannot be read, and its name once.
func cannotRead(path string, err error) error {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("cannot read %s: %w", path, err)
}
