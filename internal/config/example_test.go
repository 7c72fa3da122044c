package config_test

import (
	"fmt"
	"slices"

	"github.com/sluice-edge/sluice/internal/config"
)

// A section whose keys depend on a kind: the outer struct takes what all kinds
// share, and the inline Raw keeps the rest for the struct of the kind.
func Example_kinds() {
	type backend struct {
		Kind string     `yaml:"kind" default:"http" doc:"what answers"`
		Rest config.Raw `yaml:",inline"`
	}
	type gateway struct {
		Backends map[string]backend `yaml:"backends"`
	}
	type files struct {
		Root  string `yaml:"root" required:"true" doc:"the folder to serve"`
		Index string `yaml:"index" default:"index.html"`
	}
	kinds := []string{"files", "http"}

	d, err := config.Parse("gateway.yaml", []byte(`backends:
  assets: {kind: files, rot: ./public}
  docs:   {kind: file, root: ./docs}
  site:   {kind: files, root: ./site}
`), nil)
	if err != nil {
		fmt.Println(err) // syntax; nothing to decode
		return
	}
	var cfg gateway
	d.Decode(&cfg)
	for name, b := range cfg.Backends {
		if !slices.Contains(kinds, b.Kind) {
			b.Rest.Fault("kind", fmt.Errorf("unknown kind %q%s", b.Kind, config.DidYouMean(b.Kind, kinds)))
			continue
		}
		f := files{Index: "index.html"}
		if b.Rest.Decode(&f) == nil {
			fmt.Println(name, "serves", f.Root, f.Index)
		}
	}
	fmt.Println(d.Err())
	// Output:
	// site serves ./site index.html
	// gateway.yaml:2:25: backends.assets.rot: unknown key "rot"; did you mean "root"?
	// gateway.yaml:3:18: backends.docs.kind: unknown kind "file"; did you mean "files"?
}
