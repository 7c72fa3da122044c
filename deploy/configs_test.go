package deploy

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// TestYAML reads every YAML file here, all documents of it.
func TestYAML(t *testing.T) {
	n := 0
	err := filepath.WalkDir(".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".yml" {
			return err
		}
		n++
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		d := yaml.NewDecoder(bytes.NewReader(data))
		for {
			var doc map[string]any
			if err := d.Decode(&doc); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				t.Errorf("%s: %v", path, err)
				return nil
			}
			if strings.HasPrefix(path, "kubernetes") && path != "kubernetes/gateway.yaml" && (doc["apiVersion"] == nil || doc["kind"] == nil || doc["metadata"] == nil) {
				t.Errorf("%s: a document without apiVersion, kind or metadata", path)
			}
		}
	})
	must(t, err)
	if n < 12 {
		t.Errorf("only %d files were found", n)
	}
}

// TestGatewayConfigs has the gateway check each of its configurations here but
// the phases', which TestPhases runs.
func TestGatewayConfigs(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"systemd":    read(t, "systemd/gateway.yaml"),
		"kubernetes": read(t, "kubernetes/gateway.yaml"),
	} {
		path := filepath.Join(t.TempDir(), "gateway.yaml")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		cmd := exec.Command(binary(t, "gateway"), "check", "-config", path)
		cmd.Env = append(os.Environ(), "ADMIN_TOKEN_FILE="+secret(t))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}

// TestKubernetes has kubectl put the manifests together, where there is one: it
// finds files that are missing, and patches that fit nothing.
func TestKubernetes(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	if err != nil {
		t.Skip("there is no kubectl")
	}
	out, err := exec.Command(kubectl, "kustomize", "kubernetes").CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl kustomize: %v\n%s", err, out)
	}
	kinds := map[string]bool{}
	d := yaml.NewDecoder(bytes.NewReader(out))
	for {
		var doc struct{ Kind string }
		if err := d.Decode(&doc); err != nil {
			break
		}
		kinds[doc.Kind] = true
	}
	for _, kind := range []string{"ConfigMap", "Deployment", "Service", "PodDisruptionBudget"} {
		if !kinds[kind] {
			t.Errorf("no %s comes of it", kind)
		}
	}
}

// TestCompose holds the services to what their files and each other need.
func TestCompose(t *testing.T) {
	var c struct {
		Services map[string]struct {
			Command, Volumes []string
			Environment      map[string]string
			DependsOn        any `yaml:"depends_on"`
		}
	}
	must(t, yaml.Unmarshal([]byte(read(t, "compose.yaml")), &c))
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			file, _, _ := strings.Cut(v, ":")
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s mounts %s: %v", name, file, err)
			}
		}
		for _, word := range s.Command {
			file, ok := strings.CutPrefix(word, "/etc/sluice/")
			if !ok {
				continue
			}
			for _, variable := range variables(read(t, "phases/"+file)) {
				if s.Environment[variable] == "" {
					t.Errorf("%s is not told %s, which %s has", name, variable, file)
				}
			}
		}
		for variable, value := range s.Environment {
			host, port, ok := strings.Cut(value, ":")
			if _, at, found := strings.Cut(value, "@"); found {
				host, port, ok = strings.Cut(at, ":")
			}
			if _, known := c.Services[host]; ok && host != "" && port != "" && !known {
				t.Errorf("%s: %s is %s, and there is no service %s", name, variable, value, host)
			}
		}
	}
	if len(c.Services) < 15 {
		t.Errorf("only %d services were read", len(c.Services))
	}
}

var variable = regexp.MustCompile(`\$\{(\w+)`)

func variables(text string) (names []string) {
	for _, m := range variable.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// TestSystemd has systemd judge the unit, with a path that exists in place of
// the binary's.
func TestSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze")
	}
	text := read(t, "systemd/sluice.service")
	const program = "/usr/local/bin/gateway"
	if !strings.Contains(text, program+" run ") || !strings.Contains(text, program+" check ") {
		t.Fatalf("the unit does not check and run %s", program)
	}
	unit := filepath.Join(t.TempDir(), "sluice.service")
	must(t, os.WriteFile(unit, []byte(strings.ReplaceAll(text, program, "/bin/true")), 0o600))
	out, err := exec.Command(analyze, "verify", "--man=no", unit).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "sluice.service") { // of other units of this machine it has much to say
			t.Error(strings.TrimSpace(line))
		}
	}
	if err != nil && len(out) == 0 {
		t.Error(err)
	}
}
