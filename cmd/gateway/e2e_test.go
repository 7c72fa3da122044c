package main

import (
	"flag"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the gateway: the end-to-end tests start it
// as a process of its own by the name gateway, and targets by the name target;
// both are on their PATH.
func TestMain(m *testing.M) {
	testscript.Main(waiting{m}, map[string]func(){"gateway": main, "target": targetMain})
}

// waiting runs more tests at a time than there are processors: most of their
// time they wait.
type waiting struct{ *testing.M }

func (m waiting) Run() int {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		_ = flag.Set("test.parallel", "8") // it is a flag of every test binary
	}
	return m.M.Run()
}
