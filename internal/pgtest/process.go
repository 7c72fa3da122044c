package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// children returns the processes whose parent pid is. PostgreSQL's are each in
// a session of their own, so that no signal to a group reaches them.
func children(pid int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is good
	var list []int
	for _, path := range stats {
		state, parent, err := stat(path)
		if err == nil && parent == pid && state != "Z" {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			list = append(list, child)
		}
	}
	return list
}

func anyAlive(pids []int) bool {
	for _, pid := range pids {
		if state, _, err := stat(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && state != "Z" {
			return true
		}
	}
	return false
}

// stat reads a process's state and parent (proc(5)).
func stat(path string) (state string, parent int, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", 0, err
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return "", 0, fmt.Errorf("%s: %q", path, text)
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err
}
