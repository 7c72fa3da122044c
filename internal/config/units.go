package config

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var days = regexp.MustCompile(`^([0-9]+)d$`)

// The parsers below return an int64 or a float64. Where they cannot, the hint
// ends the fault "expected …, got …" and may be empty.

// parseDuration reads Go's syntax. A bare number has no unit, so only 0 will do.
func parseDuration(n *node) (x any, hint string, ok bool) {
	if n.tag == intTag || n.tag == floatTag {
		if n.value == "0" {
			return int64(0), "", true
		}
		if _, err := strconv.ParseUint(n.value, 10, 32); err == nil {
			return nil, " without a unit; write " + n.value + "s if seconds are meant", false
		}
		return nil, " without a unit", false
	}
	if n.kind != scalarNode || n.tag == boolTag || n.tag == nullTag {
		return nil, "", false
	}
	if m := days.FindStringSubmatch(n.value); m != nil {
		if count, err := strconv.Atoi(m[1]); err == nil && count < 100_000 {
			return nil, "; write " + strconv.Itoa(24*count) + "h", false
		}
	}
	d, err := time.ParseDuration(n.value)
	if err != nil {
		return nil, "", false
	}
	return int64(d), "", true
}

var (
	sizeSyntax = regexp.MustCompile(`^([0-9]+) ?([A-Za-z]*)$`)
	sizeUnits  = map[string]int64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
		"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	}
)

// parseSize reads "64KiB", or with the suffix "/s" "64KiB/s". A bare number is
// bytes where there is no suffix, and 0 with one.
func parseSize(n *node, suffix string) (x any, hint string, ok bool) {
	if n.kind != scalarNode || n.tag == boolTag || n.tag == nullTag {
		return nil, "", false
	}
	text, cut := strings.CutSuffix(n.value, suffix)
	m := sizeSyntax.FindStringSubmatch(text)
	if m == nil {
		return nil, "", false
	}
	count, err := strconv.ParseInt(m[1], 10, 64)
	unit, known := sizeUnits[m[2]]
	switch {
	case err != nil || (known && count > math.MaxInt64/unit):
		return nil, ", which is out of range", false
	case !known:
		if u := unitLike(m[2]); u != "" {
			return nil, "; write " + m[1] + u + suffix, false
		}
		return nil, "", false
	case suffix != "" && (!cut || m[2] == "") && count != 0:
		if m[2] == "" {
			m[2] = "B"
		}
		return nil, "; write " + m[1] + m[2] + suffix, false
	}
	return count * unit, "", true
}

// unitLike guesses the unit that "k", "kb" or "mib" was meant as.
func unitLike(s string) string {
	switch s = strings.ToUpper(s); s {
	case "K", "M", "G", "T", "KIB", "MIB", "GIB", "TIB":
		return s[:1] + "iB"
	case "KB", "MB", "GB", "TB", "B":
		return s
	}
	return ""
}

// parsePercent reads "10%" as 0.10.
func parsePercent(n *node) (x any, hint string, ok bool) {
	if n.tag == intTag || n.tag == floatTag {
		if n.value == "0" {
			return 0.0, "", true
		}
		share, err := strconv.ParseFloat(n.value, 64)
		if err != nil {
			return nil, "", false
		}
		if share > 0 && share < 1 {
			share *= 100
		}
		return nil, "; write " + strconv.FormatFloat(share, 'g', 6, 64) + "%", false
	}
	digits, ok := strings.CutSuffix(n.value, "%")
	share, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if !ok || n.tag != strTag || err != nil || math.IsNaN(share) || math.IsInf(share, 0) {
		return nil, "", false
	}
	return share / 100, "", true
}
