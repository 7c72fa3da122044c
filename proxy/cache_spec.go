package proxy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-edge/sluice/edgecache"
)

// Cache says what of a route's responses is stored, and for how long.
type Cache struct {
	TTL                  CacheTTL      `yaml:"ttl" doc:"bounds on what the origin says, and what holds where it says nothing"`
	Key                  CacheKey      `yaml:"key" doc:"what of a request counts beside method, scheme, host and path; origins are not sent other parameters"`
	StaleWhileRevalidate time.Duration `yaml:"stale_while_revalidate" min:"0s" default:"0s" doc:"how long a stale response is still served while it is validated, where the origin says nothing of it"`
	StaleIfError         time.Duration `yaml:"stale_if_error" min:"0s" default:"0s" doc:"how long a stale response is still served while the backend fails, where the origin says nothing of it"`
	MaxObject            int64         `yaml:"max_object" unit:"size" min:"1KiB" max:"1GiB" default:"8MiB" doc:"of a response's content; larger ones are not stored"`
	Heuristic            float64       `yaml:"heuristic" unit:"percent" default:"10%" doc:"of the age since Last-Modified, for how long a response is fresh where nothing is said; 0%: not at all"`
	SetCookie            string        `yaml:"set_cookie" enum:"skip|store" default:"skip" doc:"responses with Set-Cookie: skip: not stored unless they say public or s-maxage; store: like others"`
	ClientDirectives     bool          `yaml:"client_directives" default:"false" doc:"whether Cache-Control of a request counts; only-if-cached always does"`

	off bool
}

// CacheTTL are bounds on how long responses are fresh.
type CacheTTL struct {
	Min     time.Duration `yaml:"min" min:"0s" default:"0s" doc:"at least; never against no-store, no-cache or private"`
	Default time.Duration `yaml:"default" min:"0s" default:"0s" doc:"where the origin says nothing, instead of heuristic; 0s: heuristic"`
	Max     time.Duration `yaml:"max" min:"0s" default:"24h" doc:"at most; 0s: unbounded"`
}

// CacheKey says what of a request is in its key.
type CacheKey struct {
	Query   []string `yaml:"query" oneOrMany:"all|none" default:"all" doc:"all, none, or the names of those parameters that count"`
	Headers []string `yaml:"headers" doc:"names of fields whose values count"`
	Cookies []string `yaml:"cookies" doc:"names of cookies whose values count"`
}

// SetDefaults fills in what holds where a route says no more than that it caches.
func (c *Cache) SetDefaults() {
	*c = Cache{TTL: CacheTTL{Max: 24 * time.Hour}, Key: CacheKey{Query: []string{edgecache.QueryAll}}, MaxObject: 8 << 20, Heuristic: .1, SetCookie: "skip"}
}

// UnmarshalYAMLBool reads the short form: true for all defaults.
func (c *Cache) UnmarshalYAMLBool(on bool) error {
	c.SetDefaults()
	c.off = !on
	return nil
}

// rules are what the cache is told.
func (c *Cache) rules(route string) (*edgecache.Rules, error) {
	r := &edgecache.Rules{
		MinTTL: c.TTL.Min, DefaultTTL: c.TTL.Default, MaxTTL: c.TTL.Max, Heuristic: c.Heuristic,
		StaleRevalidate: c.StaleWhileRevalidate, StaleError: c.StaleIfError, MaxObject: c.MaxObject,
		StoreCookies: c.SetCookie == "store", ClientDirectives: c.ClientDirectives,
		Key: edgecache.KeyRule{Route: route, Query: edgecache.QueryNames, Names: c.Key.Query, Headers: c.Key.Headers, Cookies: c.Key.Cookies},
	}
	var faults []error
	if len(c.Key.Query) == 1 && (c.Key.Query[0] == edgecache.QueryAll || c.Key.Query[0] == edgecache.QueryNone) {
		r.Key.Query, r.Key.Names = c.Key.Query[0], nil
	}
	if c.TTL.Max > 0 && c.TTL.Min > c.TTL.Max {
		faults = append(faults, &SpecError{"ttl.min", errors.New("it is more than ttl.max")})
	}
	for i, name := range c.Key.Headers {
		if err := checkName(name); err != nil {
			faults = append(faults, &SpecError{fmt.Sprintf("key.headers[%d]", i), err})
		}
	}
	if i := slices.Index(c.Key.Cookies, ""); i >= 0 {
		faults = append(faults, &SpecError{fmt.Sprintf("key.cookies[%d]", i), errors.New("a cookie has a name")})
	}
	return r, errors.Join(faults...)
}
