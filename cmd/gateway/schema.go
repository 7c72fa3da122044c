package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"

	"github.com/sluice-edge/sluice/internal/config"
	"github.com/sluice-edge/sluice/proxy"
)

// options is what config cannot see in the types: the keys of each kind of
// backend.
func options() config.Options {
	return config.Options{
		Title: "Sluice configuration",
		Variants: map[reflect.Type]map[string]any{
			reflect.TypeFor[BackendFile](): {
				"http":     proxy.HTTP{},
				"files":    proxy.Files{},
				"respond":  proxy.Respond{},
				"redirect": proxy.Redirect{},
				"users":    Users{},
			},
		},
	}
}

// schema is `gateway schema`.
func (p *program) schema(args []string) error {
	fs := flags("schema")
	example := fs.Bool("example", false, "")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	if *example {
		_, err := p.out.Write(defaultYAML)
		return err
	}
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(config.Schema(File{}, options()))
}

// release is set by the linker for a release: -X main.release=v1.2.3.
var release = ""

// version is the program's version, as far as it knows.
func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// version is `gateway version`.
func (p *program) version(args []string) error {
	if _, err := parse(flags("version"), args); err != nil {
		return err
	}
	_, err := fmt.Fprintf(p.out, "sluice %s %s %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
