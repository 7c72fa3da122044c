package routing

import (
	"fmt"
	"net/netip"
)

// Match says which requests a route takes. Empty parts match everything; all
// parts must match.
//
// A value that begins with re: is a regular expression (RE2) that is searched
// for as written: without ^ and $ it matches anywhere in the value.
type Match struct {
	Hosts     []string          `yaml:"hosts" json:"hosts,omitempty" doc:"exact names or *.example.com (any depth below, not example.com itself); the request's port is ignored"`
	Path      string            `yaml:"path" json:"path,omitempty" doc:"/x/* is /x and all below it, /x exactly that, /u/{id} one segment, re:^/…$ a regular expression on the normal form"`
	Methods   []string          `yaml:"methods" json:"methods,omitempty" doc:"GET takes HEAD as well; empty: all"`
	Headers   map[string]string `yaml:"headers" json:"headers,omitempty" doc:"name to exact value, re:… or present"`
	Query     map[string]string `yaml:"query" json:"query,omitempty" doc:"name to exact value, re:… or present; the first of several counts"`
	ClientIPs []string          `yaml:"client_ips" json:"client_ips,omitempty" doc:"addresses and CIDR ranges"`
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

// A RuleError is one fault in one rule. NewTable joins all of them.
type RuleError struct {
	Rule  int    // index of the rule
	Field string // where below the route, as in YAML: match.hosts[1], match.headers.X-Canary
	Err   error
}

// Error names the rule by its number, from 0, and the field.
func (e *RuleError) Error() string {
	return fmt.Sprintf("route %d: %s: %v", e.Rule, e.Field, e.Err)
}

// Unwrap returns the fault without its place.
func (e *RuleError) Unwrap() error { return e.Err }

// Fields looks up a header field by its name, in any case.
type Fields interface {
	// Lookup returns the value of the first field of that name.
	Lookup(name string) (value string, ok bool)
	// Nth returns the value of the field of that name which n others precede.
	Nth(name string, n int) (value string, ok bool)
}

// A Request is what a table decides on, and what a Key reads. Neither keeps
// anything of it.
type Request struct {
	Host     string // as the client sent it, with or without a port
	Path     string // the normal form
	Query    string // without the question mark
	Method   string // case-sensitive (RFC 9110, section 9.1)
	Fields   Fields // nil: no fields
	ClientIP netip.Addr
	// Ambiguous is what Normalize said of the path.
	Ambiguous bool

	// What follows is not known before the match, and not looked at by it: a
	// Key may ask for it.
	Route      string // name of the route that was taken
	Claims     Claims // nil: the client has shown no token
	TLSSubject string // of the client's certificate, if it has shown one
	TLSName    string // the certificate's first alternative name
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

// String returns the outcome in words.
func (o Outcome) String() string {
	switch o {
	case NoRoute:
		return "no route"
	case Found:
		return "found"
	case MethodNotAllowed:
		return "method not allowed"
	case Ambiguous:
		return "ambiguous"
	}
	return fmt.Sprintf("Outcome(%d)", uint8(o))
}

// A Result is what a table says of a request.
type Result struct {
	Outcome Outcome
	Route   int      // index of the rule where Outcome is Found, else 0
	Allow   []string // sorted, without duplicates, for the field Allow (RFC 9110, section 10.2.1)
}
