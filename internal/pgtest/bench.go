package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

var perSecond = regexp.MustCompile(`tps = ([0-9.]+)`)

// Bench runs pgbench against a database, and returns the transactions a second
// that it reports. script, unless it is empty, is the transaction.
func (s *Server) Bench(t testing.TB, database, script string, args ...string) float64 {
	t.Helper()
	if script != "" {
		path := filepath.Join(filepath.Dir(s.dir), "script.sql")
		if err := os.WriteFile(path, []byte(script), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-f", path)
	}
	args = append([]string{"-h", "127.0.0.1", "-p", fmt.Sprint(s.Port), "-U", "postgres"}, args...)
	out, err := s.in.Command("pgbench", append(args, database)...).CombinedOutput()
	if err != nil {
		t.Fatalf("pgbench: %v\n%s", err, out)
	}
	found := perSecond.FindSubmatch(out)
	if found == nil {
		return 0 // -i reports none
	}
	tps, _ := strconv.ParseFloat(string(found[1]), 64)
	return tps
}
