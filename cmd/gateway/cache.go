package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-edge/sluice/edgecache"
)

// Cache is where responses of the routes with a cache are stored.
type Cache struct {
	Memory    int64       `yaml:"memory" unit:"size" min:"1MiB" default:"256MiB" doc:"for everything that is stored, keys and headers counted"`
	Redis     SharedCache `yaml:"redis" doc:"a second level in the Redis of redis, and purges for all gateways of the same name"`
	Name      string      `yaml:"name" default:"sluice" doc:"gateways that share a Redis and this name share what they store"`
	PurgeFrom []string    `yaml:"purge_from" doc:"addresses and ranges whose requests with the method PURGE make the gateway forget a URL; without any, PURGE is a method like others"`
}

// SharedCache is the second level.
type SharedCache struct {
	Enabled   bool  `yaml:"enabled" default:"false" doc:"whether there is one; it needs redis"`
	MaxObject int64 `yaml:"max_object" unit:"size" min:"1KiB" max:"64MiB" default:"1MiB" doc:"of a response that is put there"`
}

// UnmarshalYAMLBool reads the short form.
func (s *SharedCache) UnmarshalYAMLBool(on bool) error {
	s.Enabled = on
	return nil
}

// underwayShare is which part of the memory contents may take beside it while
// they are fetched to be stored.
const underwayShare = 4

// maxRevalidations bounds the stale responses that are validated in the
// background at a time.
const maxRevalidations = 64

// A cacheLink is the cache and what belongs to it. It outlives reloads that do
// not change its settings, and what it has stored with it.
type cacheLink struct {
	cache    *edgecache.Cache
	store    *edgecache.Memory
	purges   *edgecache.Purges
	shared   *edgecache.Shared // nil: no second level
	settings string
	redis    *redisLink
	stop     context.CancelFunc // of what runs for it; nil: nothing does yet
}

// linkCache returns the cache that the file asks for: running, where it is that,
// or a new and empty one. nil: no route has a cache.
func (s *setup) linkCache(running *cacheLink) *cacheLink {
	c, wanted := &s.file.Cache, false
	for i := range s.file.Routes {
		wanted = wanted || s.file.Routes[i].Cache != nil
	}
	if c.Redis.Enabled && s.file.Redis == nil {
		s.doc.Fault("cache.redis.enabled", errors.New("there is no redis to share a cache by"))
		return nil
	}
	if !wanted || c.Redis.Enabled && s.redis == nil {
		return nil
	}
	l := &cacheLink{settings: fmt.Sprintf("%d %+v %q", c.Memory, c.Redis, c.Name)}
	if c.Redis.Enabled {
		l.redis = s.redis
	}
	if running != nil && running.settings == l.settings && running.redis == l.redis {
		return running
	}
	if running != nil {
		s.warnings = append(s.warnings, "the settings of the cache have changed: it starts empty")
	}
	if err := l.open(s); err != nil {
		s.doc.Fault("cache", err)
		return nil
	}
	return l
}

func (l *cacheLink) open(s *setup) (err error) {
	c := &s.file.Cache
	if l.store, err = edgecache.NewMemory(c.Memory); err != nil {
		return err
	}
	purges := edgecache.PurgesConfig{Memory: l.store, Name: c.Name, Log: s.log}
	if l.redis != nil {
		purges.Redis, purges.Timeout = l.redis.UniversalClient, s.file.Redis.Timeout
		purges.Blindness = max(time.Second, 4*s.file.Redis.Timeout)
	}
	if l.purges, err = edgecache.NewPurges(purges); err != nil {
		return err
	}
	cfg := edgecache.Config{Store: l.store, Purger: l.purges, Underway: max(c.Memory/underwayShare, 16<<20), Revalidations: maxRevalidations}
	if l.redis != nil {
		l.shared, err = edgecache.NewShared(edgecache.SharedConfig{
			Redis: l.redis.UniversalClient, Name: c.Name, Timeout: s.file.Redis.Timeout, MaxObject: c.Redis.MaxObject, Purges: l.purges,
		})
		if err != nil {
			return err
		}
		cfg.Second = l.shared
	}
	l.cache, err = edgecache.New(cfg)
	return err
}

// runCache runs what the cache of next needs, and ends what only that of old did.
func (g *gateway) runCache(old, next *setup) {
	if l := next.cache; l != nil && l.stop == nil {
		if old != nil && old.cache != nil {
			old.cache.purges.Succeed(l.purges)
		}
		ctx, stop := context.WithCancel(g.life)
		l.stop = stop
		g.wg.Go(func() { _ = l.purges.Run(ctx) }) // it ends with ctx
		if l.shared != nil {
			g.wg.Go(func() { _ = l.shared.Run(ctx) }) // likewise
		}
	}
	if old != nil && old.cache != nil && old.cache != next.cache {
		old.cache.stop()
	}
}

// cached is how many bytes the cache holds.
func (g *gateway) cached() int64 {
	s := g.current.Load()
	if s == nil || s.cache == nil {
		return 0
	}
	return s.cache.store.Stats().Bytes
}

// A purgeOrder is the body of POST /api/cache/purge: one of URL, Prefix, Host, Tag
// and All.
type purgeOrder struct {
	URL    string `json:"url"`
	Prefix string `json:"prefix"`
	Host   string `json:"host"`
	Tag    string `json:"tag"`
	All    bool   `json:"all"`
	Soft   bool   `json:"soft"`
}

var errNoCache = errors.New("no route has a cache")

// purge is what an order means.
func (o *purgeOrder) purge() (p edgecache.Purge, err error) {
	n := 0
	for _, one := range []struct {
		given bool
		kind  edgecache.PurgeKind
		value string
	}{
		{o.URL != "", edgecache.PurgeURL, o.URL}, {o.Prefix != "", edgecache.PurgePrefix, o.Prefix}, {o.Host != "", edgecache.PurgeHost, o.Host},
		{o.Tag != "", edgecache.PurgeTag, o.Tag}, {o.All, edgecache.PurgeAll, ""},
	} {
		if one.given {
			p.Kind, p.Value = one.kind, one.value
			n++
		}
	}
	if n != 1 {
		return p, errors.New("a purge names one of url, prefix, host, tag and all")
	}
	p.Soft = o.Soft
	if p.Kind == edgecache.PurgeURL || p.Kind == edgecache.PurgePrefix {
		p.Value, err = edgecache.URL(p.Value)
	}
	return p, err
}

// purgeCache does what the admin API was told to; everywhere is false where other
// gateways have yet to hear of it.
func (g *gateway) purgeCache(o purgeOrder) (everywhere bool, err error) {
	l := g.current.Load().cache
	if l == nil {
		return false, errNoCache
	}
	p, err := o.purge()
	if err != nil {
		return false, err
	}
	err = l.cache.Purge(p)
	if errors.Is(err, edgecache.ErrHeldHere) {
		return false, nil
	}
	return err == nil, err
}

// decodeOrder reads JSON strictly: what is not understood purges nothing.
func decodeOrder(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("the body is no order to purge: a JSON object is expected, not %s", kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("the body is no order to purge: %s must be a %s, not a %s", kind.Field, kind.Type, kind.Value)
	}
	return fmt.Errorf("the body is no order to purge: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// writeCache writes what is measured of the cache.
func (g *gateway) writeCache(w io.Writer) {
	s := g.current.Load()
	if s == nil || s.cache == nil {
		return
	}
	l, stats := s.cache, s.cache.store.Stats()
	metrics.WriteGaugeUint64(w, "sluice_cache_bytes", uint64(max(stats.Bytes, 0)))
	metrics.WriteGaugeUint64(w, "sluice_cache_resources", uint64(stats.Resources))
	metrics.WriteGaugeUint64(w, "sluice_cache_underway_bytes", uint64(max(l.cache.Underway(), 0)))
	metrics.WriteCounterUint64(w, "sluice_cache_evicted_total", stats.Evicted)
	metrics.WriteCounterUint64(w, "sluice_cache_refused_total", stats.Refused)
	if l.shared == nil {
		return
	}
	shared := l.shared.Stats()
	for _, one := range []struct {
		result string
		n      uint64
	}{
		{"hit", shared.Hits}, {"miss", shared.Misses}, {"corrupt", shared.Corrupt}, {"outdated", shared.Outdated},
		{"skipped", shared.Skipped}, {"failed", shared.Failed},
	} {
		metrics.WriteCounterUint64(w, fmt.Sprintf("sluice_cache_shared_reads_total{result=%q}", one.result), one.n)
	}
	metrics.WriteCounterUint64(w, `sluice_redis_errors_total{use="cache"}`, shared.Failed)
	metrics.WriteCounterUint64(w, `sluice_redis_errors_total{use="purge"}`, l.purges.Stats().Errors)
}

// A cacheReport is the answer of /api/cache.
type cacheReport struct {
	Bytes     int64                   `json:"bytes"`
	Capacity  int64                   `json:"capacity"`
	Resources int                     `json:"resources"`
	Evicted   uint64                  `json:"evicted"`
	Refused   uint64                  `json:"refused"`
	Underway  int64                   `json:"underway_bytes"`
	Requests  map[string]uint64       `json:"requests"`
	HitRatio  float64                 `json:"hit_ratio"`
	Purges    edgecache.PurgesStats   `json:"purges"`
	Shared    *edgecache.SharedStats  `json:"shared,omitempty"`
	Top       []edgecache.Description `json:"top,omitempty"`
	Found     []edgecache.Description `json:"found,omitempty"`
}

const (
	topKeys   = 20
	maxListed = 100
)

// cacheReport tells of the cache: of all of it, or where the query has a url, of
// what is stored for that.
func (g *gateway) cacheReport(query url.Values) (any, error) {
	s := g.current.Load()
	l := s.cache
	if l == nil {
		return nil, errNoCache
	}
	stats := l.store.Stats()
	r := cacheReport{
		Bytes: stats.Bytes, Capacity: stats.Capacity, Resources: stats.Resources, Evicted: stats.Evicted, Refused: stats.Refused,
		Underway: l.cache.Underway(), Requests: g.proxy.CacheResults(), Purges: l.purges.Stats(),
	}
	var all uint64
	for _, n := range r.Requests {
		all += n
	}
	if all > 0 {
		r.HitRatio = float64(r.Requests["hit"]+r.Requests["stale"]) / float64(all)
	}
	if l.shared != nil {
		shared := l.shared.Stats()
		r.Shared = &shared
	}
	now := time.Now()
	if text := query.Get("url"); text != "" {
		wanted, err := edgecache.URL(text)
		if err != nil {
			return nil, err
		}
		r.Found = l.cache.Describe(wanted, maxListed, now)
		return r, nil
	}
	r.Top = l.store.Top(topKeys, now)
	return r, nil
}
