package phases

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of /proc/PID/stat: USER_HZ is 100 on every Linux.
const tick = 10 * time.Millisecond

// stat is what of /proc/PID/stat (proc(5)) is needed.
type stat struct {
	parent      int
	own, reaped time.Duration // CPU time; that of children that are gone and waited for
}

func readStat(path string) (stat, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return stat{}, err
	}
	return parseStat(string(data))
}

func parseStat(text string) (stat, error) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // state is f[0]
	if len(f) < 15 {
		return stat{}, fmt.Errorf("no stat of a process: %q", text)
	}
	var n [15]int
	for i := 1; i < 15; i++ {
		n[i], _ = strconv.Atoi(f[i])
	}
	return stat{parent: n[1], own: time.Duration(n[11]+n[12]) * tick, reaped: time.Duration(n[13]+n[14]) * tick}, nil
}

// CPU is the CPU time of each process with its children, as long as it has been
// running, by name.
func (r *Running) CPU() map[string]time.Duration {
	roots := map[int]string{}
	for _, p := range r.Processes {
		roots[p.Pid()] = p.Name
	}
	used := map[string]time.Duration{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	for _, path := range stats {
		s, err := readStat(path)
		if err != nil {
			continue // it is gone
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if name, ok := roots[pid]; ok {
			used[name] += s.own + s.reaped
		} else if name, ok := roots[s.parent]; ok {
			used[name] += s.own
		}
	}
	return used
}
