package load

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// fixed asks for one thing and takes every answer of 200.
type fixed struct{ numbers }

func (fixed) Check(i int, write bool, status int, head, body []byte) string {
	if status != 200 {
		return fmt.Sprintf("status %d", status)
	}
	return ""
}

// BenchmarkBesideWrk measures the CPU that a request costs this client, and wrk
// in turn with it, against an nginx with a fixed answer. Only the ratio means
// something.
func BenchmarkBesideWrk(b *testing.B) {
	for _, need := range []string{"nginx", "wrk"} {
		if _, err := exec.LookPath(need); err != nil {
			b.Skip(err)
		}
	}
	const addr = "127.0.0.1:19310"
	dir := b.TempDir()
	conf := fmt.Sprintf(`daemon off; worker_processes 1; pid %s/pid; error_log stderr error;
events { worker_connections 1024; }
http { access_log off; keepalive_requests 100000000; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
server { listen %s; location / { default_type application/json; return 200 '{"id":"0192f0c1-7a8b-7c3d-8e4f-0123456789ab","name":"somebody","email":"somebody@example.com"}'; } } }
`, dir, addr)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		b.Fatal(err)
	}
	nginx := exec.Command("nginx", "-c", file, "-e", "stderr")
	nginx.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := nginx.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-nginx.Process.Pid, syscall.SIGKILL) // its own group, nobody else's
		_ = nginx.Wait()
	}()
	var c *Client
	for deadline := time.Now().Add(5 * time.Second); ; {
		var err error
		if c, err = Dial(context.Background(), Config{Address: addr, Connections: 64, Population: fixed{1_000_000}, Mix: Mix{Skew: 0.99}}); err == nil {
			break
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
		<-time.After(20 * time.Millisecond)
	}
	defer c.Close()
	b.ResetTimer()
	var own, ownRate, theirs, theirRate float64
	for range b.N {
		before := used(syscall.RUSAGE_SELF)
		r := c.Run(context.Background(), time.Second)
		if r.Failed() > 0 {
			b.Fatal(r.Failures())
		}
		own += (used(syscall.RUSAGE_SELF) - before) / float64(r.Requests)
		ownRate += r.PerSecond()

		before = used(syscall.RUSAGE_CHILDREN)
		out, err := exec.Command("wrk", "-t1", "-c64", "-d1s", "http://"+addr+"/").CombinedOutput()
		if err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		n, _ := strconv.ParseFloat(string(regexp.MustCompile(`(\d+) requests in`).FindSubmatch(out)[1]), 64)
		theirs += (used(syscall.RUSAGE_CHILDREN) - before) / n
		theirRate += n
	}
	n := float64(b.N)
	b.ReportMetric(own/n, "µs/request")
	b.ReportMetric(theirs/n, "wrk-µs/request")
	b.ReportMetric(ownRate/n, "requests/s")
	b.ReportMetric(theirRate/n, "wrk-requests/s")
}

// used is CPU time in µs.
func used(who int) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e3
}
