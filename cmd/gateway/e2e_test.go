package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the test binary be the gateway: the end-to-end tests start it
// as a process of its own by the name gateway, which is on their PATH.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gateway": main})
}
