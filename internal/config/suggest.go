package config

import (
	"fmt"
	"slices"
	"strings"
)

// DidYouMean returns `; did you mean "address"?` where one of the known words
// is close to word, else "", for the end of a message.
func DidYouMean(word string, known []string) string {
	if best := closest(word, known); best != "" {
		return fmt.Sprintf("; did you mean %q?", best)
	}
	return ""
}

func closest(word string, known []string) string {
	word = plainWord(word)
	best, least := "", max(1, min(3, len([]rune(word))/3))+1
	if len(word) > 100 {
		return ""
	}
	for _, k := range known {
		if k == "" {
			continue
		}
		if d := distance(word, plainWord(k)); d < least {
			best, least = k, d
		}
	}
	return best
}

// plainWord makes proxyProtocol, proxy-protocol and proxy_protocol the same.
func plainWord(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
}

// distance counts insertions, deletions, substitutions and swaps of neighbours
// (optimal string alignment).
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) == 0 || len(y) == 0 {
		return max(len(x), len(y))
	}
	var before, prev []int
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(x); i++ {
		before, prev, row = prev, row, make([]int, len(y)+1)
		row[0] = i
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(y)]
}

// unknown reports a key that the mapping may not have.
func (d *Document) unknown(key *node, p place, known []string) {
	path := Join(p.path, key.value)
	hint := ""
	if best := closest(key.value, known); best != "" {
		hint = fmt.Sprintf("; did you mean %q?", best)
		d.tainted = append(d.tainted, Join(p.path, best))
	} else if len(known) > 0 && len(known) <= 12 {
		sorted := slices.Sorted(slices.Values(known))
		hint = "; the keys here are " + oneOf(sorted, "and")
	}
	d.fault(key, path, "unknown key %q%s", clip(key.value), hint)
}

// oneOf is "a, b or c".
func oneOf(words []string, last string) string {
	shown := make([]string, len(words))
	for i, w := range words {
		if shown[i] = w; w == "" {
			shown[i] = `""`
		}
	}
	if len(shown) < 2 {
		return strings.Join(shown, "")
	}
	n := len(shown) - 1
	return strings.Join(shown[:n], ", ") + " " + last + " " + shown[n]
}
