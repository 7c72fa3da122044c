// Package service puts the user service together as its part of a configuration
// says: store, cache, sessions and API.
package service

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/sluice-edge/sluice/internal/shard"
	"github.com/sluice-edge/sluice/internal/users/cache"
)

// Modes of the service.
const (
	Embedded    = "embedded"
	Postgres    = "postgres"
	Distributed = "distributed"
)

// A Spec is the `users` of a configuration.
type Spec struct {
	Listen        string        `yaml:"listen" default:"127.0.0.1:9101" doc:"host:port of a service of its own (users run)"`
	Mode          string        `yaml:"mode" enum:"embedded|postgres|distributed" default:"embedded" doc:"where users are kept: SQLite files, PostgreSQL servers, or one address of YugabyteDB or Citus"`
	DataDir       string        `yaml:"data_dir" default:"./data" doc:"embedded: folder of the files, made where it is missing; one process at a time has it"`
	Strategy      string        `yaml:"strategy" enum:"hash|range|geo" default:"hash" doc:"which shard a new user goes to: by a hash or by ranges of the e-mail address, or by the region"`
	Shards        []Shard       `yaml:"shards" doc:"embedded without the key: s1 to s4"`
	MaxReplicaLag time.Duration `yaml:"max_replica_lag" min:"0s" default:"5s" doc:"replicas that are further behind are not read from"`
	Cache         Cache         `yaml:"cache" doc:"users that were read are kept at hand, in redis where the file has it"`
	Sessions      Sessions      `yaml:"sessions" doc:"who is logged in, in redis where the file has it"`
	Jobs          *Jobs         `yaml:"jobs" doc:"what is done after writes: welcome e-mails, avatars, counters, repairs of the cache; embedded: a change needs a restart"`
	SecretFile    string        `yaml:"secret_file" doc:"file of what signs consistency tokens and cursors, 16 bytes at least, the same for every process; embedded makes one in data_dir"`
}

// A Shard is one part of the users.
type Shard struct {
	Name     string   `yaml:"name" required:"true" doc:"letters, digits, hyphens; names the files of the embedded mode"`
	Primary  string   `yaml:"primary" secret:"true" doc:"postgres://user@host:port/database"`
	Replicas []string `yaml:"replicas" secret:"true" doc:"the same, of its streaming replicas"`
	Range    []string `yaml:"range" doc:"range: from the first, up to but without the second; an empty second has no end"`
	Regions  []string `yaml:"regions" doc:"geo: whose users are here"`
	Default  bool     `yaml:"default" default:"false" doc:"geo: the users of all other regions are here, too; exactly one shard"`
}

// Cache is how users are cached.
type Cache struct {
	Mode     string        `yaml:"mode" enum:"off|ttl|event|write_through" default:"event" doc:"what writes do to what is cached: nothing, mark it as old, or replace it"`
	TTL      time.Duration `yaml:"ttl" min:"1s" default:"5m" doc:"how long a user is cached"`
	LocalTTL time.Duration `yaml:"local_ttl" min:"0s" max:"10s" default:"1s" doc:"how long in the process, before redis is asked; 0s: not at all"`
}

// Sessions is how long a login lasts.
type Sessions struct {
	TTL time.Duration `yaml:"ttl" min:"1m" default:"24h" doc:"a session ends when nothing is heard of it for so long"`
}

// Default is what holds where a file says nothing.
func Default() Spec {
	return Spec{
		Listen: "127.0.0.1:9101", Mode: Embedded, DataDir: "./data", Strategy: "hash",
		MaxReplicaLag: 5 * time.Second,
		Cache:         Cache{Mode: cache.ModeEvent, TTL: 5 * time.Minute, LocalTTL: time.Second},
		Sessions:      Sessions{TTL: 24 * time.Hour},
	}
}

// SetDefaults fills in what holds where a file says nothing.
func (s *Spec) SetDefaults() { *s = Default() }

// A fault is what is wrong with one key.
type fault struct {
	field string
	error
}

func (f *fault) Field() string { return f.field }
func (f *fault) Unwrap() error { return f.error }

func at(field, format string, args ...any) error { return &fault{field, fmt.Errorf(format, args...)} }

var shardName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,31}$`)

// Validate says what does not go together.
func (s *Spec) Validate() error {
	var errs []error
	seen := map[string]int{}
	for i := range s.Shards {
		path := "shards[" + strconv.Itoa(i) + "]"
		sh := &s.Shards[i]
		if sh.Name != "" && !shardName.MatchString(sh.Name) {
			errs = append(errs, at(path+".name", "%q is not up to 32 letters, digits and inner hyphens", sh.Name))
		}
		if first, ok := seen[sh.Name]; ok && sh.Name != "" {
			errs = append(errs, at(path+".name", "shards[%d] has the name %q already", first, sh.Name))
		}
		seen[sh.Name] = i
		errs = append(errs, s.checkShard(path, sh)...)
	}
	if s.Mode != Embedded && len(s.Shards) == 0 {
		errs = append(errs, at("shards", "mode %s needs a shard with its primary at least", s.Mode))
	}
	if s.Mode == Distributed && len(s.Shards) > 1 {
		errs = append(errs, at("shards", "mode distributed has one address, which spreads the users itself; mode postgres has several"))
	}
	if s.Jobs != nil {
		errs = append(errs, s.Jobs.check(s.Mode)...)
	}
	if s.SecretFile != "" {
		if _, err := readSecret(s.SecretFile); err != nil {
			errs = append(errs, &fault{"secret_file", err})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if _, err := s.assigner(); err != nil {
		return &fault{"shards", err}
	}
	return nil
}

func (s *Spec) checkShard(path string, sh *Shard) (errs []error) {
	switch {
	case s.Mode == Embedded && (sh.Primary != "" || len(sh.Replicas) > 0):
		errs = append(errs, at(path+".primary", "mode embedded keeps users in files; with servers it is mode postgres"))
	case s.Mode != Embedded && sh.Primary == "":
		errs = append(errs, at(path+".primary", "mode %s needs the address of the shard's primary", s.Mode))
	}
	if s.Mode != Embedded {
		errs = append(errs, checkURL(path+".primary", sh.Primary))
		for i, r := range sh.Replicas {
			errs = append(errs, checkURL(path+".replicas["+strconv.Itoa(i)+"]", r))
		}
	}
	if len(sh.Range) != 0 && len(sh.Range) != 2 {
		errs = append(errs, at(path+".range", "a range has two ends, such as [a, g]"))
	}
	if s.Strategy == "range" && len(sh.Range) == 0 {
		errs = append(errs, at(path+".range", "strategy range needs the range of every shard"))
	}
	return errs
}

func checkURL(field, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || !slices.Contains([]string{"postgres", "postgresql"}, u.Scheme) || u.Host == "" {
		return at(field, "it is no URL such as postgres://user@host:5432/database")
	}
	return nil
}

// shards is the list of shards, that of the embedded mode where there is none.
func (s *Spec) shards() []Shard {
	if len(s.Shards) > 0 {
		return s.Shards
	}
	out := make([]Shard, 4)
	letters := []string{"a", "g", "n", "t", ""}
	for i := range out {
		out[i] = Shard{Name: "s" + strconv.Itoa(i+1), Range: letters[i : i+2], Default: i == 0}
	}
	return out
}

func (s *Spec) assigner() (shard.Assigner, error) {
	var places []shard.Place
	for _, sh := range s.shards() {
		p := shard.Place{Name: sh.Name, Regions: sh.Regions, Default: sh.Default}
		if len(sh.Range) == 2 {
			p.From, p.To = sh.Range[0], sh.Range[1]
		}
		places = append(places, p)
	}
	return shard.NewAssigner(s.Strategy, places)
}

func readSecret(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, inner(err))
	}
	for len(data) > 0 && (data[len(data)-1] == '\n' || data[len(data)-1] == '\r') {
		data = data[:len(data)-1]
	}
	if len(data) < 16 {
		return nil, fmt.Errorf("%s holds %d bytes; a secret has at least 16", path, len(data))
	}
	return data, nil
}

func inner(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
