package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-edge/sluice/bench/phases"
)

// roles of processes, in the order in which they are reported.
var roles = []string{"client", "gateway", "service", "redis", "database"}

// roleOf is what a kind of process counts as. A gateway with the service in it is
// a gateway: nothing tells them apart.
var roleOf = map[string]string{"gateway": "gateway", "users": "service", "worker": "service", "redis": "redis", "postgres": "database"}

// usage is CPU time since some beginning.
type usage struct {
	at      time.Time
	role    map[string]time.Duration
	process map[string]time.Duration
	machine time.Duration // of all cores and everybody
	stolen  time.Duration // by the host
}

func use(r *phases.Running) (usage, error) {
	u := usage{at: time.Now(), role: map[string]time.Duration{}, process: r.CPU()}
	for _, p := range r.Processes {
		u.role[roleOf[p.Kind]] += u.process[p.Name]
	}
	var self syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return u, err
	}
	own := time.Duration(self.Utime.Nano() + self.Stime.Nano())
	u.role["client"], u.process["client"] = own, own
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	u.machine, u.stolen, err = parseMachine(string(data))
	return u, err
}

// parseMachine reads the first line of /proc/stat (proc(5)).
func parseMachine(text string) (busy, stolen time.Duration, err error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, field := range f[1:9] {
		n, err := strconv.Atoi(field)
		if err != nil {
			return 0, 0, err
		}
		switch i {
		case 3, 4: // idle, iowait
		case 7:
			stolen = time.Duration(n) * tick
		default:
			busy += time.Duration(n) * tick
		}
	}
	return busy, stolen, nil
}

// cores is what was used in between, in cores.
type cores struct {
	Role    map[string]float64
	Process map[string]float64
	Machine float64 // busy, of Total
	Stolen  float64
	Total   int
}

func (u usage) since(before usage) cores {
	took := u.at.Sub(before.at).Seconds()
	share := func(now, then map[string]time.Duration) map[string]float64 {
		m := map[string]float64{}
		for name, d := range now {
			m[name] = (d - then[name]).Seconds() / took
		}
		return m
	}
	return cores{
		Role: share(u.role, before.role), Process: share(u.process, before.process),
		Machine: (u.machine - before.machine).Seconds() / took, Stolen: (u.stolen - before.stolen).Seconds() / took,
		Total: runtime.NumCPU(),
	}
}

// ours is what everything of the phase used, the client too.
func (c cores) ours() float64 {
	sum := 0.0
	for _, n := range c.Role {
		sum += n
	}
	return sum
}

// others is what somebody else used meanwhile.
func (c cores) others() float64 { return max(0, c.Machine-c.ours()) }

// largest is who used most.
func largest(m map[string]float64) (name string, n float64) {
	for who, used := range m {
		if used > n || used == n && who < name {
			name, n = who, used
		}
	}
	return name, n
}

// limit says what holds a phase back: who has most of the cores where they are
// all used, a process that cannot use more than one, or waiting.
func (c cores) limit() string {
	role, n := largest(c.Role)
	busy := (c.Machine + c.Stolen) / float64(c.Total)
	switch {
	case c.Process["redis"] > 0.9:
		return fmt.Sprintf("Redis, whose one thread is busy (%.2f cores)", c.Process["redis"])
	case busy > 0.9 && c.others() > n:
		return fmt.Sprintf("work that is none of the journey's: %.2f of %d cores", c.others(), c.Total)
	case busy > 0.9:
		return fmt.Sprintf("CPU: %s has %.2f of %d cores", role, n, c.Total)
	}
	return fmt.Sprintf("waiting: %.0f %% of the CPU is idle; %s has most, %.2f of %d cores", 100*(1-busy), role, n, c.Total)
}

// describe is the machine, for the report.
func describe() string {
	name := "unknown CPU"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == "model name" {
				name = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return fmt.Sprintf("%d cores of %s, Linux %s, %s", runtime.NumCPU(), name, strings.TrimSpace(string(kernel)), runtime.Version())
}
