package deploy

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A step of the README's tour is what is pasted, and what that prints.
type step struct {
	line             int // of the README
	commands, output string
}

// build is how the tour begins. Here what is built already stands in for it.
const build = "go build -o tour/ ./cmd/gateway && cd tour\n"

// TestTour pastes the tour of the README into a shell, line by line, and holds
// it to print what the README says. Ports are others, so that nobody is in the
// way.
func TestTour(t *testing.T) {
	t.Parallel()
	steps := tour(t, read(t, "../README.md"))
	if steps[0].commands != build || len(steps) < 6 {
		t.Fatalf("the tour has %d steps and begins with %q", len(steps), steps[0].commands)
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "tour"), 0o700))
	must(t, os.Symlink(binary(t, "gateway"), filepath.Join(dir, "tour", "gateway")))
	steps[0].commands = "cd tour\n"

	ports := newPorts(t, "8090", "9001", "9002", "9990")
	sh := newShell(t, dir)
	for _, s := range steps {
		got := ports.back(sh.run(t, ports.there(s.commands)))
		if !printed(s.output).MatchString(got) {
			t.Fatalf("README.md:%d: the commands\n%s\nprint\n%s\nand not\n%s\non standard error, until here:\n%s",
				s.line, s.commands, got, s.output, sh.errors())
		}
	}
	for _, port := range ports.real {
		if conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, waitLimit); err == nil {
			conn.Close()
			t.Errorf("the tour is over, and somebody still listens on its port %s", ports.back(port))
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("the tour leaves %v behind, %v", left, err)
	}
}

// tour reads the steps of a README: its blocks of sh, each with the block of
// text that follows it, if one does.
func tour(t *testing.T, readme string) (steps []step) {
	t.Helper()
	_, rest, found := strings.Cut(readme, "\n## A tour")
	if !found {
		t.Fatal("the README has no tour")
	}
	line := strings.Count(readme[:len(readme)-len(rest)], "\n") + 1
	rest, _, _ = strings.Cut(rest, "\n## ")
	kind, text, from := "", "", 0
	for ; rest != ""; line++ {
		var now string
		now, rest, _ = strings.Cut(rest, "\n")
		fence, isFence := strings.CutPrefix(now, "```")
		switch {
		case !isFence:
			text += now + "\n"
		case kind == "":
			kind, text, from = fence, "", line+1
		case kind == "sh":
			steps = append(steps, step{line: from, commands: text})
			kind = ""
		case kind == "text" && len(steps) > 0 && steps[len(steps)-1].output == "":
			steps[len(steps)-1].output = text
			kind = ""
		default:
			t.Fatalf("README.md:%d: a block of %q has no place in the tour", from, kind)
		}
	}
	return steps
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// printed is what matches an output as the README has it: … stands for anything
// in its line, or alone for any lines; and ids are made up anew each time.
func printed(text string) *regexp.Regexp {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "…" {
			b.WriteString(`(.*\n)*?`)
			continue
		}
		line = uuid.ReplaceAllString(regexp.QuoteMeta(line), uuid.String())
		b.WriteString(strings.ReplaceAll(line, "…", ".*") + `\n`)
	}
	return regexp.MustCompile(`^` + b.String() + `$`)
}

func TestPrinted(t *testing.T) {
	const id = "01a2101e-da91-76a0-83cc-f0b9a1f70793"
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"", "", true},
		{"", "a\n", false},
		{"a (b)\n", "a (b)\n", true},
		{"a\n", "ab\n", false},
		{"a\n", "a\nb\n", false},
		{"a …\nc\n", "a b\nc\n", true},
		{"a …\nc\n", "a b\nb\nc\n", false},
		{"a\n…\nc\n", "a\nb\nb\nc\n", true},
		{"a\n…\nc\n", "a\nb\nb\n", false},
		{"x " + id + "\n", "x 11111111-2222-3333-4444-555555555555\n", true},
		{"x " + id + "\n", "x 1\n", false},
	} {
		if got := printed(c.want).MatchString(c.got); got != c.ok {
			t.Errorf("%q for %q: %v, want %v", c.got, c.want, got, c.ok)
		}
	}
}

// ports are other ports in place of those that a text has.
type ports struct {
	real        []string
	there, back func(text string) string
}

// newPorts finds a port for each of named, which ascend as they do: free, with
// as many digits, and none that the kernel gives to connections.
func newPorts(t *testing.T, named ...string) ports {
	t.Helper()
	var p ports
	for tries := 0; len(p.real) < len(named); tries++ {
		port := strconv.Itoa(3000 + rand.IntN(7000))
		ln, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err == nil {
			defer ln.Close()
			p.real = append(p.real, port)
		} else if tries > 1000 {
			t.Fatalf("no port is free: %v", err)
		}
	}
	slices.Sort(p.real)
	forth, back := map[string]string{}, map[string]string{}
	for i, name := range named {
		forth[name], back[p.real[i]] = p.real[i], name
	}
	number := regexp.MustCompile(`\b\d{4}\b`)
	by := func(m map[string]string) func(string) string {
		return func(text string) string {
			return number.ReplaceAllStringFunc(text, func(n string) string {
				if other, ok := m[n]; ok {
					return other
				}
				return n
			})
		}
	}
	p.there, p.back = by(forth), by(back)
	return p
}

// A shell is a bash that is told what to do as by a person who pastes, and all
// that comes of it.
type shell struct {
	in       *os.File
	out      *os.File
	lines    *bufio.Reader
	complain string // the file of standard error
}

// leash, as its first line, has the shell's whole process group end when the
// other end of descriptor 3 is closed, be it because this process is gone.
const leash = "{ cat <&3; kill -KILL 0; } >/dev/null 2>&1 & exec 3<&-\n"

// newShell starts a bash in a directory, until the end of the test.
func newShell(t *testing.T, dir string) *shell {
	t.Helper()
	tool(t, "curl", "curl")
	var ends [6]*os.File
	for i := 0; i < len(ends); i += 2 {
		r, w, err := os.Pipe()
		must(t, err)
		ends[i], ends[i+1] = r, w
	}
	inR, inW, outR, outW, leashR, leashW := ends[0], ends[1], ends[2], ends[3], ends[4], ends[5]
	sh := &shell{in: inW, out: outR, lines: bufio.NewReader(outR), complain: filepath.Join(t.TempDir(), "stderr")}
	stderr, err := os.Create(sh.complain)
	must(t, err)
	cmd := exec.Command(tool(t, "bash", "bash"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "no_proxy=*")
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = inR, outW, stderr, []*os.File{leashR}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(t, cmd.Start())
	for _, f := range []*os.File{inR, outW, leashR, stderr} {
		must(t, f.Close())
	}
	t.Cleanup(func() {
		leashW.Close()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // where it has not come to the leash
		_ = cmd.Wait()                                      // it was killed
		inW.Close()
		outR.Close()
	})
	_, err = sh.in.WriteString(leash)
	must(t, err)
	return sh
}

// run has the shell do something, and returns what was printed when it was done.
func (sh *shell) run(t *testing.T, commands string) string {
	t.Helper()
	const end = "that was all of it"
	_, err := sh.in.WriteString(commands + "printf '\\n%s\\n' '" + end + "'\n")
	must(t, err)
	must(t, sh.out.SetReadDeadline(time.Now().Add(waitLimit)))
	var out bytes.Buffer
	for {
		line, err := sh.lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v; after\n%s\nthere was only\n%s\n%s", err, commands, out.String(), sh.errors())
		}
		if line == end+"\n" {
			break
		}
		out.WriteString(line)
	}
	text := strings.TrimRight(strings.ReplaceAll(out.String(), "\r", ""), "\n")
	if text == "" {
		return ""
	}
	return text + "\n"
}

// errors is what was printed on standard error.
func (sh *shell) errors() string {
	text, err := os.ReadFile(sh.complain)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
