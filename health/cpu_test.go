package health

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestMain is the targets of TestCPU, in a process of their own, where it is
// told to.
func TestMain(m *testing.M) {
	if os.Getenv("HEALTH_TARGETS") != "" {
		serveTargets()
		return
	}
	os.Exit(m.Run())
}

const cpuTargets = 1000

// serveTargets listens at a thousand ports, prints them, and ends with its
// standard input.
func serveTargets() {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			script{200, "application/grpc", frame("\x08\x01"), "0", ""}.ServeHTTP(w, r)
		}
	})
	s := &http.Server{Handler: answer, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	for range cpuTargets {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(l.Addr())
		go s.Serve(l)
	}
	io.Copy(io.Discard, os.Stdin)
}

// TestCPU measures the processor time of this process while it checks a
// thousand targets of another at an interval of 5 s:
//
//	HEALTH_CPU=1 go test -run TestCPU -v ./health
func TestCPU(t *testing.T) {
	if os.Getenv("HEALTH_CPU") == "" {
		t.Skip("set HEALTH_CPU=1 to measure")
	}
	targets := exec.Command(os.Args[0])
	targets.Env = append(os.Environ(), "HEALTH_TARGETS=1")
	targets.Stderr = os.Stderr
	in, err := targets.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := targets.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := targets.Start(); err != nil {
		t.Fatal(err)
	}
	defer targets.Wait()
	defer in.Close()
	lines := bufio.NewScanner(out)
	var urls []string
	for len(urls) < cpuTargets && lines.Scan() {
		urls = append(urls, "http://"+string(bytes.TrimSpace(lines.Bytes())))
	}
	for _, kind := range []string{"http", "tcp", "grpc"} {
		t.Run(kind, func(t *testing.T) { measure(t, kind, urls) })
	}
}

func measure(t *testing.T, kind string, urls []string) {
	a := defaultActive()
	a.Kind = kind
	c, err := NewChecker(Config{Report: func(x Transition) { t.Errorf("%+v", x) }})
	if err != nil {
		t.Fatal(err)
	}
	g, err := c.Group("b", a, nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []*Target
	for _, url := range urls {
		all = append(all, add(t, g, url))
	}
	defer run(t, c)()
	<-time.After(7 * time.Second) // connections are made, checks are spread
	const span = 10 * time.Second
	from, begun := spent(), time.Now()
	<-time.After(span)
	used := spent() - from
	share := 100 * float64(used) / float64(time.Since(begun))
	checks := 0
	for _, x := range all {
		checks += x.State().Successes
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	t.Logf("%s: %d targets, %v of processor time in %v: %.2f %% of a core; %d checks, %d goroutines, %d KiB of heap and stacks",
		kind, len(all), used, span, share, checks, runtime.NumGoroutine(), (m.HeapInuse+m.StackInuse)/1024)
	if limit := map[string]float64{"http": 3, "tcp": 3, "grpc": 4}[kind]; share > limit {
		t.Errorf("%.2f %% of a core", share)
	}
}

func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
