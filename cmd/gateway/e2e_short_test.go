//go:build !long

package main_test

// exacting says that times and shares count that a busy machine spoils.
const exacting = false

// bigBody is the length of a large body, in bytes: 2 GiB with -tags long.
const bigBody = 256 << 20

// growthReloads is how many reloads have to leave nothing behind.
const growthReloads = 50
