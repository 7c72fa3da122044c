//go:build long

package main_test

// bigBody is the length of a large body, in bytes.
const bigBody = 2 << 30

// growthReloads is how many reloads have to leave nothing behind.
const growthReloads = 500
