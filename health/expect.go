package health

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// statuses are ranges of HTTP statuses, both ends included.
type statuses [][2]int

func (s statuses) has(status int) bool {
	for _, r := range s {
		if r[0] <= status && status <= r[1] {
			return true
		}
	}
	return false
}

func parseStatuses(list []string, kind string, f *faults) statuses {
	if kind == "http" && len(list) == 0 {
		f.add("expect", "is empty: no answer would be good")
	}
	var s statuses
	for i, text := range list {
		lo, hi, err := parseRange(text)
		if err != nil {
			f.add(fmt.Sprintf("expect[%d]", i), "%w", err)
			continue
		}
		s = append(s, [2]int{lo, hi})
	}
	return s
}

// parseRange reads 204 or 200-299. Interim statuses are never an answer.
func parseRange(text string) (lo, hi int, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	lo, okLo := parseStatus(from)
	hi, okHi := parseStatus(to)
	switch {
	case !okLo || !okHi:
		return 0, 0, fmt.Errorf("%q is neither a status from 200 to 599 nor a range such as 200-299", text)
	case lo > hi:
		return 0, 0, fmt.Errorf("%q runs backwards", text)
	}
	return lo, hi, nil
}

// parseStatus takes three digits and no sign.
func parseStatus(text string) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 16)
	return int(n), err == nil && len(text) == 3 && n >= 200 && n <= 599
}

// A matcher looks for something in a body; the zero matcher finds it in all.
type matcher struct {
	part []byte
	re   *regexp.Regexp
}

func parseBody(text string, f *faults) matcher {
	pattern, isRegexp := strings.CutPrefix(text, "re:")
	if !isRegexp {
		return matcher{part: []byte(text)}
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		f.add("body", "%w", err)
	}
	return matcher{re: re}
}

func (m matcher) wants() bool { return m.re != nil || len(m.part) > 0 }

func (m matcher) match(body []byte) bool {
	if m.re != nil {
		return m.re.Match(body)
	}
	return bytes.Contains(body, m.part)
}
