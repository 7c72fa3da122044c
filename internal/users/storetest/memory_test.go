package storetest

import (
	"testing"

	"github.com/sluice-edge/sluice/internal/users"
)

// The suite can be passed.
func TestMemory(t *testing.T) { Run(t, func(*testing.T) users.Store { return NewMemory() }) }
