package edgecache

import "strings"

// maxSeconds is the largest age or lifetime; what is larger, counts as this (RFC
// 9111, section 1.2.2).
const maxSeconds = 1 << 31

// Directives are what Cache-Control says, of a request or a response. A number
// that is not there is absent; one that cannot be read, or is given twice with
// different values, is 0: it counts as over (RFC 9111, section 4.2.1).
type Directives struct {
	Present                                      bool
	NoStore, NoCache, Private, Public            bool
	MustRevalidate, ProxyRevalidate              bool
	MustUnderstand, OnlyIfCached                 bool
	MaxAge, SMaxAge, StaleRevalidate, StaleError int64
	MaxStale, MinFresh                           int64
	// Fields are the names that no-cache="…" and private="…" give (sections
	// 5.2.2.4 and 5.2.2.7), as a list.
	Fields string
}

const absent = -1

func newDirectives() Directives {
	return Directives{MaxAge: absent, SMaxAge: absent, StaleRevalidate: absent, StaleError: absent, MaxStale: absent, MinFresh: absent}
}

// add reads one Cache-Control field (RFC 9111, section 5.2): a list of names,
// some with a value that is a token or a quoted string. Unknown ones are skipped.
func (d *Directives) add(list string) {
	d.Present = true
	for list != "" {
		var one string
		one, list = cutMember(list)
		name, value, valued := strings.Cut(one, "=")
		spaced := strings.HasSuffix(name, " ") || strings.HasSuffix(name, "\t") || strings.HasPrefix(value, " ") || strings.HasPrefix(value, "\t")
		name, value = trim(name), trim(value)
		if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
			value = value[1 : n-1]
		}
		d.set(name, value, valued, spaced)
	}
}

func (d *Directives) set(name, value string, valued, broken bool) {
	is := func(what string) bool { return len(name) == len(what) && strings.EqualFold(name, what) }
	switch {
	case is("max-age"):
		seconds(&d.MaxAge, value, broken)
	case is("s-maxage"):
		seconds(&d.SMaxAge, value, broken)
	case is("no-store"):
		d.NoStore = true
	case is("no-cache"):
		d.fields(&d.NoCache, value, valued)
	case is("private"):
		d.fields(&d.Private, value, valued)
	case is("public"):
		d.Public = true
	case is("must-revalidate"):
		d.MustRevalidate = true
	case is("proxy-revalidate"):
		d.ProxyRevalidate = true
	case is("must-understand"):
		d.MustUnderstand = true
	case is("stale-while-revalidate"):
		seconds(&d.StaleRevalidate, value, broken)
	case is("stale-if-error"):
		seconds(&d.StaleError, value, broken)
	case is("only-if-cached"):
		d.OnlyIfCached = true
	case is("min-fresh"):
		seconds(&d.MinFresh, value, broken)
	case is("max-stale"):
		if value == "" {
			value = "2147483648" // however stale (section 5.2.1.2)
		}
		seconds(&d.MaxStale, value, broken)
	}
}

// fields notes a directive that is about the whole response, or about the fields
// that it names. An empty list of them means the whole, for safety.
func (d *Directives) fields(whole *bool, value string, valued bool) {
	if value == "" || !valued {
		*whole = true
		return
	}
	if d.Fields != "" {
		value = d.Fields + "," + value
	}
	d.Fields = value
}

// seconds reads delta-seconds (RFC 9111, section 1.2.2) into n.
func seconds(n *int64, text string, broken bool) {
	v, ok := deltaSeconds(text)
	if !ok || broken {
		v = 0
	}
	if *n != absent && *n != v {
		v = 0
	}
	*n = v
}

func deltaSeconds(text string) (int64, bool) {
	if text == "" {
		return 0, false
	}
	n := int64(0)
	for i := range len(text) {
		c := text[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > maxSeconds {
			n = maxSeconds
		}
	}
	return n, true
}

// cutMember takes the first member of a list, commas within quotes being part of
// it (RFC 9110, section 5.6.1).
func cutMember(list string) (member, rest string) {
	quoted := false
	for i := 0; i < len(list); i++ {
		switch c := list[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == ',' && !quoted:
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), ""
}
