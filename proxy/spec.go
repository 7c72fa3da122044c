package proxy

import (
	"net/netip"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sluice-edge/sluice/edgecache"
	"github.com/sluice-edge/sluice/health"
	"github.com/sluice-edge/sluice/limiter"
	"github.com/sluice-edge/sluice/proxy/upstream"
	"github.com/sluice-edge/sluice/routing"
)

// A Route is one element of `routes`: a match and what to do with what it
// matches.
type Route struct {
	Name            string        `yaml:"name" doc:"shown in metrics, logs and explain; route-N where nothing is said"`
	Match           routing.Match `yaml:"match" required:"true" doc:"which requests; a path alone is a short form"`
	Priority        int           `yaml:"priority" doc:"the highest wins, over any specificity"`
	Backend         string        `yaml:"backend" doc:"who answers"`
	Split           []Share       `yaml:"split" doc:"instead of backend: several, by weight"`
	Mirror          *Mirror       `yaml:"mirror" doc:"send a copy of requests to a second backend, whose answer nobody sees"`
	Rewrite         Rewrite       `yaml:"rewrite" doc:"change what the backend is asked for"`
	RequestHeaders  HeaderEdit    `yaml:"request_headers" doc:"change what the backend is told"`
	ResponseHeaders HeaderEdit    `yaml:"response_headers" doc:"change what the client is told"`
	Limits          []Limit       `yaml:"limits" doc:"how many requests of each client, key or kind are let through; all must admit one"`
	Cache           *Cache        `yaml:"cache" doc:"answer from stored responses (RFC 9111); true: with all defaults; without the key: not at all"`
	Timeout         time.Duration `yaml:"timeout" doc:"until the response has begun; 0: none" default:"0s"`
	MaxBodyBytes    int64         `yaml:"max_body_bytes" unit:"size" doc:"instead of server.max_body_bytes; 0: as the server says"`
}

// A Share is one backend of a split.
type Share struct {
	Backend string `yaml:"backend" json:"backend" required:"true"`
	Weight  int    `yaml:"weight" json:"weight" doc:"share of the sum of all weights" min:"0" max:"1000000"`
}

// Mirror sends copies of requests elsewhere.
type Mirror struct {
	Backend string  `yaml:"backend" required:"true" doc:"who gets the copies"`
	Percent float64 `yaml:"percent" unit:"percent" doc:"how many of the requests" default:"100%"`
}

// SetDefaults mirrors every request where nothing is said.
func (m *Mirror) SetDefaults() { m.Percent = 1 }

// Rewrite changes the target of a request, in this order: strip_prefix,
// replace, add_prefix.
type Rewrite struct {
	StripPrefix string  `yaml:"strip_prefix" doc:"taken off the path at a segment border"`
	AddPrefix   string  `yaml:"add_prefix" doc:"put before the path"`
	Replace     Replace `yaml:"replace" doc:"a regular expression on the path and its replacement"`
	Host        string  `yaml:"host" doc:"the Host that the backend sees"`
}

// Replace is a substitution on the path.
type Replace struct {
	From string `yaml:"from" doc:"re: and a regular expression (RE2)"`
	To   string `yaml:"to" doc:"replacement with $1, ${name}"`
}

// A HeaderEdit changes a header: remove, then set, then add.
type HeaderEdit struct {
	Set    map[string]string `yaml:"set" doc:"name to value, instead of what was there"`
	Add    map[string]string `yaml:"add" doc:"name to value, beside what was there"`
	Remove []string          `yaml:"remove" doc:"names"`
}

// HTTP is a backend of kind http: a pool of targets.
type HTTP struct {
	Targets     []Target                 `yaml:"targets" doc:"where requests go; a URL alone is a short form"`
	Discovery   upstream.DiscoveryConfig `yaml:"discovery" doc:"instead of targets: where they are looked up, again and again"`
	Balance     routing.Balance          `yaml:"balance" doc:"which target takes a request"`
	Sticky      *routing.StickyCookie    `yaml:"sticky" doc:"keep each client on its target by a signed cookie"`
	Health      Health                   `yaml:"health" doc:"which targets can take requests"`
	Breaker     *health.Breaker          `yaml:"breaker" doc:"stop asking what keeps failing: each target, and the backend as a whole"`
	Retry       Retry                    `yaml:"retry" doc:"what is sent again, to another target where there is one"`
	Hedge       Hedge                    `yaml:"hedge" doc:"ask another target as well while the first is silent"`
	Concurrency limiter.Concurrency      `yaml:"concurrency" doc:"how many requests may be in flight; beyond it they wait, or get 503"`
	Timeouts    Timeouts                 `yaml:"timeouts"`
	Transport   Transport                `yaml:"transport"`
	Fallback    Fallback                 `yaml:"fallback" doc:"what answers when no target can"`
}

// Health says how it is found out which targets can take requests.
type Health struct {
	Active         *health.Active `yaml:"active" doc:"ask targets, whether or not there are requests"`
	Passive        health.Passive `yaml:"passive" doc:"watch what requests come to"`
	PanicThreshold float64        `yaml:"panic_threshold" unit:"percent" default:"50%" doc:"while a smaller share of the targets is healthy, all are used; 0%: never"`
}

// Retry says when a request is sent again.
type Retry struct {
	Attempts          int           `yaml:"attempts" min:"1" max:"10" default:"2" doc:"at most so many in all, the first included; 1: none is sent again"`
	On                []string      `yaml:"on" default:"[connect, reset, 502, 503, 504]" doc:"after what: connect, reset, timeout, or a status from 500 on; all but connect only for methods that may come twice"`
	Budget            float64       `yaml:"budget" unit:"percent" default:"20%" doc:"share of the requests that may be retries"`
	PerAttemptTimeout time.Duration `yaml:"per_attempt_timeout" default:"0s" doc:"for the head of the response of one attempt; 0: what the other time-outs leave"`
	Backoff           time.Duration `yaml:"backoff" default:"25ms" doc:"longest wait before the first retry of what a target has seen, doubled for each further one; the wait is a random share of it"`
	MaxBody           int64         `yaml:"max_body" unit:"size" min:"0" max:"16MiB" default:"64KiB" doc:"of a request's body that is kept to be sent again"`
}

// Hedge says when a request is sent to another target while the first has not
// answered.
type Hedge struct {
	After time.Duration `yaml:"after" default:"0s" doc:"without the head of a response; for methods that may come twice, without a body or with one up to retry.max_body, and within retry.budget; 0: never"`
	Max   int           `yaml:"max" min:"1" max:"5" default:"1" doc:"how many more targets are asked, each that much later"`
}

// A Target is one address of an HTTP backend.
type Target struct {
	URL      string `yaml:"url" required:"true" doc:"http://host:port, https://host:port or unix:/path"`
	Weight   int    `yaml:"weight" doc:"share of the requests" default:"1" min:"1" max:"1000"`
	Priority int    `yaml:"priority" doc:"serves when none of a lower number can" default:"0" min:"0" max:"100"`
}

// UnmarshalText reads the short form, a URL alone.
func (t *Target) UnmarshalText(text []byte) error {
	*t = Target{URL: string(text), Weight: 1}
	return nil
}

// Timeouts are those of an HTTP backend.
type Timeouts struct {
	Connect        time.Duration `yaml:"connect" doc:"to resolve, connect and finish the TLS handshake"`
	ResponseHeader time.Duration `yaml:"response_header" doc:"from the end of the request to the head of the response"`
	Idle           time.Duration `yaml:"idle" doc:"between two pieces of a body, and of silence in a tunnel"`
	Request        time.Duration `yaml:"request" doc:"for the whole exchange, body included; 0: none"`
}

// Transport is how targets are spoken to.
type Transport struct {
	Protocol        string        `yaml:"protocol" enum:"http1|h2|h2c" doc:"what targets speak; h2: HTTP/2 over TLS, for https:// targets; h2c: HTTP/2 without, for http:// and unix: ones; neither takes upgrades (WebSocket)"`
	MaxConnections  int           `yaml:"max_connections" min:"0" doc:"a target; 0: unbounded; with HTTP/2 another is opened when the others have 100 requests each, or what the target allows"`
	IdleConnections int           `yaml:"idle_connections" min:"0" doc:"kept for each target although nothing needs them; more are closed a second after the load has fallen"`
	IdleTimeout     time.Duration `yaml:"idle_timeout" doc:"how long they are kept; shorter than the target keeps them"`
	UnknownCoding   string        `yaml:"unknown_coding" enum:"reject|drop" default:"reject" doc:"a response with a transfer coding that is registered nowhere: reject: 502; drop: its body is taken as it is, up to the end of the connection"`
	TLS             TargetTLS     `yaml:"tls" doc:"for https targets"`
}

// TargetTLS is how a target's certificate is verified, and what it is shown.
type TargetTLS struct {
	ServerName         string `yaml:"server_name" doc:"name to ask for and to verify; empty: the target's host"`
	CAFile             string `yaml:"ca_file" doc:"PEM file of the authorities to trust; empty: the system's"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify" doc:"verify nothing"`
	CertFile           string `yaml:"cert_file" doc:"PEM file of the certificate for targets that ask for one, its chain behind it; with key_file"`
	KeyFile            string `yaml:"key_file" doc:"PEM file of its key"`
}

// Fallback answers when no target can: a backend, or else a status and a body.
type Fallback struct {
	Backend string `yaml:"backend"`
	Status  int    `yaml:"status" min:"0" max:"599"`
	Body    string `yaml:"body"`
}

// Files is a backend of kind files: a folder.
type Files struct {
	Root  string `yaml:"root" required:"true" doc:"the folder; nothing outside it is served, and no dotfile"`
	Index string `yaml:"index" doc:"the file that answers for a folder" default:"index.html"`
}

// Respond is a backend of kind respond: one fixed answer.
type Respond struct {
	Status  int               `yaml:"status" min:"200" max:"599" default:"200"`
	Headers map[string]string `yaml:"headers"`
	Body    string            `yaml:"body"`
}

// Redirect is a backend of kind redirect.
type Redirect struct {
	To     string `yaml:"to" required:"true" doc:"with {scheme}, {host}, {uri}, {path}, {query}"`
	Status int    `yaml:"status" enum:"301|302|303|307|308" default:"308"`
}

// Spec is what a generation is built from.
type Spec struct {
	Routes         []Route
	Backends       map[string]BackendSpec
	TrustedProxies []netip.Prefix
	Paths          routing.Paths
	MaxBodyBytes   int64 // of a request; 0: unbounded
	AccessLog      AccessLog
	Number         uint64
	// Cache is where the responses of routes that have one are stored; nil: none
	// are. It outlives the generation.
	Cache *edgecache.Cache
	// Purgers are who may have stored responses forgotten by the method PURGE;
	// where nobody may, it is a method like others.
	Purgers []netip.Prefix
	// Redis is where gateways keep what they share; nil: each for itself. It is
	// open for as long as exchanges of the generation may ask it.
	Redis redis.UniversalClient
	// RedisTimeout bounds how long a request waits for it.
	RedisTimeout time.Duration
}

// AccessLog says which exchanges leave a line, and how it looks.
type AccessLog struct {
	Enabled bool    `yaml:"enabled" doc:"write a line on standard output for each exchange"`
	Format  string  `yaml:"format" enum:"json|text" doc:"json: one object a line; text: the combined format"`
	Sample  float64 `yaml:"sample" min:"0" max:"1" doc:"share of the exchanges below status 500 that leave a line; all others do"`
}

// A BackendSpec is one backend before it is built. See Setup for Decode.
type BackendSpec struct {
	Kind   string
	Decode func(into any) error
}
