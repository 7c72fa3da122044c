package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// The types of a small gateway, with every feature of the decoder in them.

type root struct {
	Listeners []listener         `yaml:"listeners" doc:"where clients connect"`
	Server    server             `yaml:"server"`
	Trusted   []netip.Prefix     `yaml:"trusted_proxies"`
	Backends  map[string]backend `yaml:"backends"`
	Routes    []*route           `yaml:"routes"`
	Users     Raw                `yaml:"users"`
	Redis     *redis             `yaml:"redis"`
	Claims    map[string]any     `yaml:"claims"`
}

type listener struct {
	Address   string   `yaml:"address" required:"true" doc:"host:port"`
	Protocols []string `yaml:"protocols" enum:"http1|h2|h2c|h3"`
	Port      uint16   `yaml:"port"`
}

type server struct {
	MaxBody  int64         `yaml:"max_body_bytes" unit:"size" default:"64MiB" min:"1KiB"`
	MinRate  int64         `yaml:"min_body_rate" unit:"byterate"`
	Idle     time.Duration `yaml:"idle_timeout" default:"75s" doc:"how long a silent connection lives"`
	Skew     time.Duration `yaml:"skew" negative:"true"`
	Wait     time.Duration `yaml:"wait" min:"1s" max:"1m"`
	Budget   float64       `yaml:"budget" unit:"percent" default:"20%"`
	Load     float64       `yaml:"load" min:"1"`
	MaxConns int           `yaml:"max_connections" min:"0" max:"100000"`
	Merge    bool          `yaml:"merge_slashes"`
	Version  string        `yaml:"min_version"`
	Hidden   string
}

type backend struct {
	Kind   string        `yaml:"kind" default:"http"`
	Note   string        `yaml:"note"`
	Budget time.Duration `yaml:"timeout"`
	Rest   Raw           `yaml:",inline"`
}

func (b *backend) SetDefaults() { b.Kind = "http" }

type httpKind struct {
	Targets []target `yaml:"targets" oneOrMany:"true" required:"true"`
	Names   []string `yaml:"names" oneOrMany:"all|none"`
	Policy  string   `yaml:"policy" enum:"round_robin|least_request|maglev" default:"round_robin"`
}

type filesKind struct {
	Root string `yaml:"root" required:"true"`
	Code int    `yaml:"code" enum:"301|308"`
}

type target struct {
	URL    url.URL `yaml:"url"`
	Weight int     `yaml:"weight" default:"1"`
}

func (t *target) SetDefaults() { t.Weight = 1 }

func (t *target) UnmarshalText(b []byte) error {
	u, err := url.Parse(string(b))
	if err == nil && u.Host == "" {
		err = errors.New("a target is a URL such as http://127.0.0.1:9001")
	}
	if err == nil {
		t.URL = *u
	}
	return err
}

type match struct {
	Path    string            `yaml:"path"`
	Methods []string          `yaml:"methods"`
	Headers map[string]string `yaml:"headers"`
	Range   [2]string         `yaml:"range"`
}

func (m *match) UnmarshalText(b []byte) error { m.Path = string(b); return nil }

func (m *match) Validate() error {
	var errs []error
	if !strings.HasPrefix(m.Path, "/") {
		errs = append(errs, At("path", fmt.Errorf("%q does not begin with a slash", m.Path)))
	}
	for i, s := range m.Methods {
		if s != strings.ToUpper(s) {
			errs = append(errs, At(fmt.Sprintf("methods[%d]", i), errors.New("methods are upper case")))
		}
	}
	return errors.Join(errs...)
}

type cache struct {
	On  bool          `yaml:"-"`
	TTL time.Duration `yaml:"ttl"`
}

func (c *cache) UnmarshalYAMLBool(on bool) error {
	if !on {
		return errors.New("leave it out instead")
	}
	c.On = on
	return nil
}

type common struct {
	Priority int `yaml:"priority"`
}

type route struct {
	common  `yaml:",inline"`
	Name    string        `yaml:"name"`
	Match   match         `yaml:"match"`
	Backend string        `yaml:"backend"`
	Cache   *cache        `yaml:"cache"`
	Retry   []string      `yaml:"on"`
	Timeout time.Duration `yaml:"timeout"`
}

type redis struct {
	Password string `yaml:"password" secret:"true"`
	URL      string `yaml:"url"`
	File     string `yaml:"password_file"`
	DB       int    `yaml:"db" secret:"true"`
}

type usersKind struct {
	Mode string `yaml:"mode" enum:"embedded|postgres"`
}

var options = Options{Title: "Sluice", Variants: map[reflect.Type]map[string]any{
	reflect.TypeFor[backend](): {"http": httpKind{}, "files": filesKind{}},
	reflect.TypeFor[root]():    {"users": usersKind{}},
}}

func defaults() root {
	return root{Server: server{MaxBody: 64 << 20, Idle: 75 * time.Second, Budget: 0.2, Load: 1.25}}
}

func environment(name string) (string, bool) {
	v, ok := map[string]string{
		"PORT": "8080", "HOST": "edge", "EMPTY": "", "YES": "true", "NUM": "12345",
		"EVIL": "x\nadmin: {address: evil}", "FLOW": "[a, b]", "NULL": "null", "PASSWORD": "hunter2",
	}[name]
	return v, ok
}

// compose decodes as the gateway does: the document, then each backend's kind.
func compose(d *Document) (cfg root, kinds map[string]any) {
	cfg, kinds = defaults(), map[string]any{}
	d.Decode(&cfg)
	for name, b := range cfg.Backends {
		var into any
		switch b.Kind {
		case "http":
			into = &httpKind{Policy: "round_robin"}
		case "files":
			into = &filesKind{}
		default:
			b.Rest.Fault("kind", fmt.Errorf("unknown kind %q%s", b.Kind, DidYouMean(b.Kind, []string{"http", "files"})))
			continue
		}
		if b.Rest.Decode(into) == nil {
			kinds[name] = into
		}
	}
	_ = cfg.Users.Decode(&usersKind{})
	return cfg, kinds
}
