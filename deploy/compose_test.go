package deploy

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/sluice-edge/sluice/internal/config"
	"github.com/sluice-edge/sluice/internal/redislink"
	"github.com/sluice-edge/sluice/internal/users/service"
)

// A composition is what these tests read of compose.yaml.
type composition struct {
	Services map[string]composed
	Secrets  map[string]struct{ Environment string }
}

type composed struct {
	Image               string
	Entrypoint, Command []string
	Ports, Volumes      []string
	Secrets             []string
	Environment         map[string]string
	Healthcheck         struct{ Test []string }
	DependsOn           yaml.Node `yaml:"depends_on"`
}

func compose(t *testing.T) composition {
	t.Helper()
	var c composition
	must(t, yaml.Unmarshal([]byte(read(t, "compose.yaml")), &c))
	return c
}

// config is the file that a service is run with, as it is here.
func (s composed) config(t *testing.T, name string) string {
	t.Helper()
	words := s.Command
	if len(words) != 3 || words[1] != "-config" {
		t.Fatalf("%s is run with %q", name, words)
	}
	for _, v := range s.Volumes {
		from, to, _ := strings.Cut(v, ":")
		to, _, _ = strings.Cut(to, ":")
		if rest, ok := strings.CutPrefix(words[2], to+"/"); ok {
			return filepath.Join(from, rest)
		}
	}
	t.Fatalf("%s has no volume with %s", name, words[2])
	return ""
}

// env is a service's environment, with secrets that are files here.
func (s composed) env(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for key, value := range s.Environment {
		if name, ok := strings.CutPrefix(value, "/run/secrets/"); ok {
			if !slices.Contains(s.Secrets, name) {
				t.Errorf("%s is %s, which the service is not given", key, value)
			}
			value = secret(t)
		}
		out[key] = value
	}
	return out
}

// serviceFile is cmd/users' file.
type serviceFile struct {
	Redis *redislink.Settings `yaml:"redis"`
	Users service.Spec        `yaml:"users" required:"true"`
}

// TestComposeConfigs has each service of ours read the file that it is run with,
// in its environment, and holds that it listens where others look for it.
func TestComposeConfigs(t *testing.T) {
	t.Parallel()
	c := compose(t)
	listens := map[string]string{} // service to address
	admins := map[string]string{}
	for name, s := range c.Services {
		if s.Image != "sluice" {
			continue
		}
		file, env := s.config(t, name), s.env(t)
		if len(s.Entrypoint) == 0 {
			if s.Command[0] != "run" {
				t.Errorf("%s: the gateway has no command %q", name, s.Command[0])
			}
			cmd := exec.Command(binary(t, "gateway"), "check", "-config", file)
			for key, value := range env {
				cmd.Env = append(cmd.Env, key+"="+value)
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %s", name, out)
			}
			listens[name], admins[name] = env["ENTRY"], env["ADMIN"]
			continue
		}
		if s.Entrypoint[0] != "/users" || s.Command[0] != "run" && s.Command[0] != "worker" {
			t.Errorf("%s runs %q %q", name, s.Entrypoint, s.Command)
		}
		f := &serviceFile{Users: service.Default()}
		doc, err := config.Parse(file, []byte(read(t, file)), func(key string) (string, bool) {
			v, ok := env[key]
			return v, ok
		})
		must(t, err)
		doc.Decode(f)
		if err := doc.Err(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.Command[0] == "run" {
			listens[name] = f.Users.Listen
		} else if f.Users.Jobs == nil {
			t.Errorf("%s has no jobs", name)
		}
	}
	for name, s := range c.Services {
		for _, p := range s.Ports {
			inside := p[strings.LastIndexByte(p, ':')+1:]
			if address, ours := listens[name]; ours && !strings.HasSuffix(address, ":"+inside) {
				t.Errorf("%s publishes %s and listens on %s", name, p, address)
			}
		}
	}
	for key, address := range c.Services["edge"].Environment {
		host, port, err := net.SplitHostPort(address)
		if listen, ours := listens[host]; err == nil && ours && !strings.HasSuffix(listen, ":"+port) {
			t.Errorf("%s is %s, which listens on %s", key, address, listen)
		}
	}
	if len(listens) != 5 {
		t.Errorf("%d services listen: %v", len(listens), listens)
	}
	scraped(t, admins)
}

// scraped holds Prometheus to the admin listeners of all gateways.
func scraped(t *testing.T, admins map[string]string) {
	t.Helper()
	var p struct {
		ScrapeConfigs []struct {
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	must(t, yaml.Unmarshal([]byte(read(t, "compose/prometheus.yml")), &p))
	seen := 0
	for _, job := range p.ScrapeConfigs {
		for _, list := range job.StaticConfigs {
			for _, target := range list.Targets {
				host, port, _ := strings.Cut(target, ":")
				if seen++; !strings.HasSuffix(admins[host], ":"+port) {
					t.Errorf("prometheus asks %s, whose admin listener is %q", target, admins[host])
				}
			}
		}
	}
	if seen != len(admins) {
		t.Errorf("prometheus asks %d of %d gateways", seen, len(admins))
	}
}

var imageForm = regexp.MustCompile(`^([a-z0-9.-]+/)?[a-z0-9-]+:[a-z0-9][a-zA-Z0-9._-]*$`)

// TestComposeServices holds what is not ours to its form: images with a version,
// checks that ask the container itself, and dependencies that can be waited for.
func TestComposeServices(t *testing.T) {
	c := compose(t)
	dockerfile := read(t, "../Dockerfile")
	for name, s := range c.Services {
		if s.Image != "sluice" && (!imageForm.MatchString(s.Image) || strings.HasSuffix(s.Image, ":latest")) {
			t.Errorf("%s: image %q has no version", name, s.Image)
		}
		if s.Image == "sluice" && len(s.Healthcheck.Test) > 0 {
			t.Errorf("%s: there is nothing in the image that could run %q", name, s.Healthcheck.Test)
		}
		for _, one := range s.Secrets {
			if c.Secrets[one].Environment == "" {
				t.Errorf("%s: there is no secret %s", name, one)
			}
		}
		for _, p := range s.Ports {
			if !regexp.MustCompile(`^(127\.0\.0\.1:)?\d+:\d+$`).MatchString(p) {
				t.Errorf("%s: port %q", name, p)
			}
		}
		needed := map[string]string{}
		var list []string
		var conditions map[string]struct{ Condition string }
		if s.DependsOn.Decode(&list) == nil {
			for _, other := range list {
				needed[other] = "service_started"
			}
		} else if s.DependsOn.Decode(&conditions) == nil {
			for other, one := range conditions {
				needed[other] = one.Condition
			}
		}
		for other, condition := range needed {
			o, ok := c.Services[other]
			if !ok || condition != "service_started" && (condition != "service_healthy" || len(o.Healthcheck.Test) == 0) {
				t.Errorf("%s waits until %s is %q", name, other, condition)
			}
		}
		if strings.HasPrefix(s.Image, "postgres:") && (len(s.Healthcheck.Test) < 2 || s.Healthcheck.Test[1] != "pg_isready") {
			t.Errorf("%s is not asked whether it is ready: %q", name, s.Healthcheck.Test)
		}
	}
	for _, program := range []string{"gateway", "users"} {
		if _, err := os.Stat("../cmd/" + program); err != nil || !strings.Contains(dockerfile, "./cmd/...") || !strings.Contains(dockerfile, "/out/ /\n") {
			t.Errorf("the image has no /%s: %v", program, err)
		}
	}
}

// TestKubernetesFits holds the manifests to each other and to the configuration:
// ports, probes, names of volumes, labels.
func TestKubernetesFits(t *testing.T) {
	var d struct {
		Spec struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
					Containers                    []struct {
						Image string
						Args  []string
						Ports []struct {
							Name          string
							ContainerPort int `yaml:"containerPort"`
						}
						StartupProbe, ReadinessProbe, LivenessProbe kubeProbe
						VolumeMounts                                []struct{ Name, MountPath string } `yaml:"volumeMounts"`
					}
					Volumes []struct{ Name string }
				}
			}
		}
	}
	must(t, yaml.Unmarshal([]byte(strings.NewReplacer("startupProbe", "startupprobe", "readinessProbe", "readinessprobe", "livenessProbe", "livenessprobe", "httpGet", "httpget", "mountPath", "mountpath").Replace(read(t, "kubernetes/deployment.yaml"))), &d))
	pod := d.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		t.Fatalf("%d containers", len(pod.Containers))
	}
	one := pod.Containers[0]
	config := read(t, "kubernetes/gateway.yaml")
	ports := map[string]bool{}
	for _, p := range one.Ports {
		ports[p.Name] = true
		if !strings.Contains(config, fmt.Sprintf(`":%d"`, p.ContainerPort)) {
			t.Errorf("nothing listens on port %s, %d", p.Name, p.ContainerPort)
		}
	}
	for path, p := range map[string]kubeProbe{"/healthz startup": one.StartupProbe, "/readyz": one.ReadinessProbe, "/healthz": one.LivenessProbe} {
		want, _, _ := strings.Cut(path, " ")
		if p.HTTPGet.Path != want || p.HTTPGet.Port != "admin" || !ports["admin"] {
			t.Errorf("the probe of %s is %+v", path, p)
		}
	}
	mounted := false
	for _, m := range one.VolumeMounts {
		if !slices.ContainsFunc(pod.Volumes, func(v struct{ Name string }) bool { return v.Name == m.Name }) {
			t.Errorf("there is no volume %s", m.Name)
		}
		mounted = mounted || one.Args[len(one.Args)-1] == m.MountPath+"/gateway.yaml"
	}
	if !mounted || !slices.Equal(one.Args[:2], []string{"run", "-config"}) {
		t.Errorf("it is run with %q", one.Args)
	}
	for key, value := range d.Spec.Selector.MatchLabels {
		if d.Spec.Template.Metadata.Labels[key] != value {
			t.Errorf("pods have no label %s: %s", key, value)
		}
	}
	var s struct {
		Spec struct {
			Selector map[string]string
			Ports    []struct {
				TargetPort string `yaml:"targetPort"`
			}
		}
	}
	must(t, yaml.Unmarshal([]byte(read(t, "kubernetes/service.yaml")), &s))
	for key, value := range s.Spec.Selector {
		if d.Spec.Template.Metadata.Labels[key] != value {
			t.Errorf("the service looks for %s: %s", key, value)
		}
	}
	for _, p := range s.Spec.Ports {
		if !ports[p.TargetPort] {
			t.Errorf("the service leads to port %q", p.TargetPort)
		}
	}
	var settings struct {
		Shutdown struct{ Grace, Timeout string }
	}
	must(t, yaml.Unmarshal([]byte(config), &settings))
	if needed := seconds(t, settings.Shutdown.Grace) + seconds(t, settings.Shutdown.Timeout); pod.TerminationGracePeriodSeconds <= needed {
		t.Errorf("it is killed after %d s and needs %d", pod.TerminationGracePeriodSeconds, needed)
	}
}

// A kubeProbe is one of Kubernetes'.
type kubeProbe struct{ HTTPGet struct{ Path, Port string } }

func seconds(t *testing.T, text string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(text, "%ds", &n); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return n
}
