package main

import (
	"time"

	"github.com/sluice-edge/sluice/internal/config"
	"github.com/sluice-edge/sluice/proxy"
	"github.com/sluice-edge/sluice/routing"
)

// A File is the configuration file.
type File struct {
	Listeners      []Listener             `yaml:"listeners" doc:"addresses where clients connect"`
	Server         Server                 `yaml:"server" doc:"what every client connection is held to"`
	Paths          routing.Paths          `yaml:"paths" doc:"the normal form of paths, which routes are matched by; what is forwarded stays as it came"`
	TrustedProxies []string               `yaml:"trusted_proxies" doc:"addresses and ranges of peers whose X-Forwarded-For and Forwarded are believed"`
	Admin          Admin                  `yaml:"admin" doc:"the second listener: metrics, readiness, what is configured"`
	Cache          Cache                  `yaml:"cache" doc:"where the responses of routes with a cache are stored"`
	Redis          *Redis                 `yaml:"redis" doc:"where gateways keep what they share; without the key: each for itself"`
	AccessLog      proxy.AccessLog        `yaml:"access_log" doc:"one line an exchange on standard output"`
	Shutdown       Shutdown               `yaml:"shutdown" doc:"what happens on SIGTERM and SIGINT"`
	Backends       map[string]BackendFile `yaml:"backends" doc:"what answers requests, by name"`
	Routes         []proxy.Route          `yaml:"routes" required:"true" doc:"which requests go to which backend; the most specific match wins, whatever the order"`
}

// A Listener is an address where clients connect.
type Listener struct {
	Address   string       `yaml:"address" required:"true" doc:"host:port; an empty host is every address, port 0 a free one"`
	Protocols []string     `yaml:"protocols" enum:"http1|h2|h2c" doc:"what is spoken there; without the key: http1 and h2 with tls, http1 and h2c without"`
	TLS       *ListenerTLS `yaml:"tls" doc:"how clients are met with TLS; without the key: plaintext"`

	RedirectHTTPS bool          `yaml:"redirect_https" default:"false" doc:"without tls: all requests are answered with 308 to https and its standard port"`
	HSTS          time.Duration `yaml:"hsts" min:"0s" default:"0s" doc:"with tls: clients are told to come back with https only, for so long; 0s: they are not"`
}

// Server is what every client connection is held to.
type Server struct {
	MaxHeaderBytes      int           `yaml:"max_header_bytes" unit:"size" min:"1KiB" max:"1MiB" default:"32KiB" doc:"of a request's head; 431 beyond, and for a field above 16KiB or more than 100 fields in any case"`
	MaxBodyBytes        int64         `yaml:"max_body_bytes" unit:"size" min:"0" default:"64MiB" doc:"of a request's body, where its route says nothing; 413 beyond; 0: unbounded"`
	HeaderTimeout       time.Duration `yaml:"header_timeout" min:"100ms" default:"10s" doc:"from a request's first byte, or a new connection's begin, to the end of its head"`
	IdleTimeout         time.Duration `yaml:"idle_timeout" min:"100ms" default:"75s" doc:"of a connection between two requests"`
	WriteTimeout        time.Duration `yaml:"write_timeout" min:"100ms" default:"60s" doc:"without the client reading anything of a response that waits for it; its connection is reset"`
	MinBodyRate         int64         `yaml:"min_body_rate" unit:"byterate" min:"0" default:"240B/s" doc:"slower request bodies are cut off; 0: none"`
	MaxConnections      int           `yaml:"max_connections" min:"1" default:"100000" doc:"open at once, a listener"`
	MaxConnectionsPerIP int           `yaml:"max_connections_per_ip" min:"0" default:"0" doc:"open at once from one IPv4 address or IPv6 /64; 0: unbounded"`
}

// Admin is the second listener.
type Admin struct {
	Address   string `yaml:"address" default:"127.0.0.1:9901" doc:"host:port; empty: no admin listener"`
	TokenFile string `yaml:"token_file" doc:"file of the bearer token that every request must carry; required where the address is not loopback"`
}

// Shutdown is what happens on SIGTERM and SIGINT.
type Shutdown struct {
	Grace   time.Duration `yaml:"grace" min:"0s" default:"5s" doc:"not ready but still serving, for load balancers to notice"`
	Timeout time.Duration `yaml:"timeout" min:"0s" default:"30s" doc:"then for exchanges to finish; what still runs is closed"`
}

// A BackendFile is one backend: its kind, and the keys that its kind knows.
type BackendFile struct {
	Kind string     `yaml:"kind" default:"http" doc:"what sort of backend it is"`
	Raw  config.Raw `yaml:",inline"`
}

// SetDefaults fills in what a new backend starts from.
func (b *BackendFile) SetDefaults() { b.Kind = "http" }

// defaults is what holds where a file says nothing.
func defaults() *File {
	return &File{
		Listeners: []Listener{{Address: ":8080"}},
		Server: Server{
			MaxHeaderBytes: 32 << 10,
			MaxBodyBytes:   64 << 20,
			HeaderTimeout:  10 * time.Second,
			IdleTimeout:    75 * time.Second,
			WriteTimeout:   time.Minute,
			MinBodyRate:    240,
			MaxConnections: 100_000,
		},
		Cache:     Cache{Memory: 256 << 20, Name: "sluice", Redis: SharedCache{MaxObject: 1 << 20}},
		Paths:     routing.Paths{EncodedSlash: routing.EncodedSlashReject},
		Admin:     Admin{Address: "127.0.0.1:9901"},
		AccessLog: proxy.AccessLog{Enabled: true, Format: "json", Sample: 1},
		Shutdown:  Shutdown{Grace: 5 * time.Second, Timeout: 30 * time.Second},
	}
}
