// Package routing answers "where does it go?".
//
// A Table picks the route for a request: by host, path, method, headers, query
// and client address, the most specific match first. Its cost does not grow
// with the number of routes: hosts are found in a map, paths in a radix tree
// per host.
//
// Paths are compared in one normal form (Paths.Normalize), the only reading of
// a path that anything in the gateway decides on.
package routing

import "net/netip"

// Match says which requests a route takes. Empty parts match everything; all
// parts must match.
type Match struct {
	Hosts     []string          `yaml:"hosts" doc:"exact names or *.example.com (any depth below, not example.com itself); the port is ignored"`
	Path      string            `yaml:"path" doc:"/x/* is /x and all below it, /x exactly that, /u/{id} one segment, re:^/… a regular expression on the normal form"`
	Methods   []string          `yaml:"methods" doc:"GET takes HEAD as well; empty: all"`
	Headers   map[string]string `yaml:"headers" doc:"name to exact value, re:… or present"`
	Query     map[string]string `yaml:"query" doc:"name to exact value, re:… or present"`
	ClientIPs []string          `yaml:"client_ips" doc:"addresses and CIDR ranges"`
}

// UnmarshalText reads the short form, a path alone.
func (m *Match) UnmarshalText(text []byte) error {
	*m = Match{Path: string(text)}
	return nil
}

// A Rule is one route as the table sees it.
type Rule struct {
	Name     string
	Match    Match
	Priority int // higher wins over any specificity
}

// Fields looks up a header field by its name, in any case.
type Fields interface {
	// Lookup returns the value of the first field of that name.
	Lookup(name string) (value string, ok bool)
}

// A Request is what a table decides on. The table keeps nothing of it.
type Request struct {
	Host     string // as the client sent it, with or without a port
	Path     string // the normal form
	Query    string // without the question mark
	Method   string
	Fields   Fields
	ClientIP netip.Addr
	// Ambiguous is what Normalize said of the path.
	Ambiguous bool
}

// An Outcome is how a match ended.
type Outcome uint8

// The outcomes.
const (
	NoRoute          Outcome = iota // 404
	Found                           // Result.Route is the index of the rule
	MethodNotAllowed                // 405; Result.Allow names the methods that some route takes
	Ambiguous                       // 400; another common reading of the path would take a different route
)

// A Result is what a table says of a request.
type Result struct {
	Outcome Outcome
	Route   int
	Allow   []string
}
