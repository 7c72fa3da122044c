//go:build race

package main_test

// raceEnabled: the gateway is slower and larger than it is for users.
const raceEnabled = true
