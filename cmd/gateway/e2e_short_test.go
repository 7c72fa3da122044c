//go:build !long

package main_test

// bigBody is the length of a large body, in bytes: 2 GiB with -tags long.
const bigBody = 256 << 20

// growthReloads is how many reloads have to leave nothing behind.
const growthReloads = 50
