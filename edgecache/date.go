package edgecache

import (
	"strings"
	"time"
)

var weekdays = [...]string{"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"}

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// parseDate reads an HTTP-date (RFC 9110, section 5.6.7) in any of its three
// forms, letters in any case. Everything else is none: the time packages at hand
// take hours of one digit, and zones that are not GMT.
func parseDate(s string, now time.Time) (time.Time, bool) {
	s = trim(s)
	if i := strings.IndexByte(s, ','); i > 0 {
		if i == 3 {
			return fixDate(s)
		}
		return rfc850Date(s, i, now)
	}
	return asctimeDate(s)
}

// fixDate reads "Sun, 06 Nov 1994 08:49:37 GMT".
func fixDate(s string) (time.Time, bool) {
	if len(s) != 29 || !isWeekday(s[:3], true) || s[3:5] != ", " || s[7] != ' ' || s[11] != ' ' || s[16] != ' ' || !isGMT(s[25:]) {
		return time.Time{}, false
	}
	return date(s[12:16], s[8:11], s[5:7], s[17:25])
}

// rfc850Date reads "Sunday, 06-Nov-94 08:49:37 GMT". A year that seems to be more
// than 50 years ahead is the one of a century before.
func rfc850Date(s string, comma int, now time.Time) (time.Time, bool) {
	rest := s[comma+1:]
	if len(rest) != 23 || !isWeekday(s[:comma], false) || rest[0] != ' ' || rest[3] != '-' || rest[7] != '-' || rest[10] != ' ' || !isGMT(rest[19:]) {
		return time.Time{}, false
	}
	short, ok := digits(rest[8:10])
	if !ok {
		return time.Time{}, false
	}
	year := now.Year()/100*100 + short
	if year > now.Year()+50 {
		year -= 100
	}
	return dateOf(year, rest[4:7], rest[1:3], rest[11:19])
}

// asctimeDate reads "Sun Nov  6 08:49:37 1994".
func asctimeDate(s string) (time.Time, bool) {
	if len(s) != 24 || !isWeekday(s[:3], true) || s[3] != ' ' || s[7] != ' ' || s[10] != ' ' || s[19] != ' ' {
		return time.Time{}, false
	}
	day := s[8:10]
	if day[0] == ' ' {
		day = "0" + day[1:]
	}
	return date(s[20:24], s[4:7], day, s[11:19])
}

func date(year, month, day, clock string) (time.Time, bool) {
	y, ok := digits(year)
	if !ok {
		return time.Time{}, false
	}
	return dateOf(y, month, day, clock)
}

func dateOf(year int, month, day, clock string) (time.Time, bool) {
	m := monthOf(month)
	d, ok1 := digits(day)
	if m == 0 || !ok1 || clock[2] != ':' || clock[5] != ':' {
		return time.Time{}, false
	}
	hour, ok1 := digits(clock[:2])
	minute, ok2 := digits(clock[3:5])
	second, ok3 := digits(clock[6:])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 60 || d < 1 {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(m), d, hour, minute, second, 0, time.UTC)
	return t, t.Day() == d || second == 60
}

func monthOf(name string) int {
	for m := 0; m < 12; m++ {
		if strings.EqualFold(name, months[3*m:3*m+3]) {
			return m + 1
		}
	}
	return 0
}

func isWeekday(name string, short bool) bool {
	for _, day := range weekdays {
		if short {
			day = day[:3]
		}
		if strings.EqualFold(name, day) {
			return true
		}
	}
	return false
}

func isGMT(zone string) bool { return strings.EqualFold(zone, " GMT") }

func digits(s string) (n int, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}
