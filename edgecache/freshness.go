package edgecache

import (
	"strings"
	"time"
)

// The reasons for a lifetime.
const (
	byNothing Reason = iota
	bySMaxAge
	byMaxAge
	byExpires
	byDefault
	byHeuristic
	byTarget
	byMinimum
	byMaximum
)

var reasons = [...]string{
	byNothing: "nothing says", bySMaxAge: "s-maxage", byMaxAge: "max-age", byExpires: "Expires", byDefault: "ttl.default",
	byHeuristic: "Last-Modified", byTarget: "CDN-Cache-Control", byMinimum: "ttl.min", byMaximum: "ttl.max",
}

func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return reasons[byNothing]
}

// Explicit reports whether the origin itself said how long e is fresh.
func (e *Entry) Explicit() bool {
	switch e.Reason {
	case bySMaxAge, byMaxAge, byExpires, byTarget:
		return true
	}
	return false
}

// lifetime is how long a response is fresh from when it was made, in seconds,
// and what says so. explicit: the origin does (RFC 9111, section 4.2.1).
func (r *Rules) lifetime(status int, f *facts, received time.Time) (seconds int64, why Reason, explicit bool) {
	c := &f.control
	switch {
	case c.SMaxAge != absent:
		seconds, why, explicit = c.SMaxAge, bySMaxAge, true
	case c.MaxAge != absent:
		seconds, why, explicit = c.MaxAge, byMaxAge, true
	case f.hasExpires:
		from := received
		if f.hasDate {
			from = f.date
		}
		seconds, why, explicit = wholeSeconds(f.expires.Sub(from)), byExpires, true
	case r.DefaultTTL > 0 && defaultable(status):
		seconds, why = wholeSeconds(r.DefaultTTL), byDefault
	case r.DefaultTTL == 0 && !f.modified.IsZero() && (heuristic(status) || c.Public):
		seconds, why = r.estimate(f, received), byHeuristic
	}
	if f.targeted && explicit {
		why = byTarget
	}
	if least := wholeSeconds(r.MinTTL); seconds < least && (explicit || why == byDefault || why == byHeuristic) {
		seconds, why = least, byMinimum
	}
	if most := wholeSeconds(r.MaxTTL); r.MaxTTL > 0 && seconds > most {
		seconds, why = most, byMaximum
	}
	return min(seconds, maxSeconds), why, explicit
}

// estimate is a share of the age that the content had (RFC 9111, section 4.2.2).
func (r *Rules) estimate(f *facts, received time.Time) int64 {
	from := received
	if f.hasDate {
		from = f.date
	}
	return wholeSeconds(time.Duration(r.Heuristic * float64(from.Sub(f.modified))))
}

// wholeSeconds rounds down, and has nothing below 0 (RFC 9111, section 1.2.2).
func wholeSeconds(d time.Duration) int64 { return max(int64(d/time.Second), 0) }

// initialAge is corrected_initial_age in seconds (RFC 9111, section 4.2.3): the
// larger of what Date and what Age say. Date may be in the future, clocks being
// what they are; that makes nothing younger.
func initialAge(f *facts, requested, received time.Time) int64 {
	apparent := int64(0)
	if f.hasDate {
		apparent = wholeSeconds(received.Sub(f.date))
	}
	corrected := f.age + wholeSeconds(received.Sub(requested))
	return min(max(apparent, corrected), maxSeconds)
}

// Age is current_age in seconds (RFC 9111, section 4.2.3). A clock that was set
// back makes nothing younger than it came.
func (e *Entry) Age(now int64) int64 {
	resident := max(now-e.ReceivedAt, 0) / int64(time.Second)
	return min(int64(e.InitialAge)+resident, maxSeconds)
}

// Fresh reports whether e may be used without validation (RFC 9111, section 4.2).
func (e *Entry) Fresh(now int64) bool {
	return e.Flags&(NoCache|Invalidated) == 0 && e.Age(now) < int64(e.Lifetime)
}

// Staleness is by how many seconds e is stale; 0 for the first second too.
func (e *Entry) Staleness(now int64) int64 { return max(e.Age(now)-int64(e.Lifetime), 0) }

// ServesWhileRevalidating reports whether e may still be used while it is being
// validated (RFC 5861, section 3).
func (e *Entry) ServesWhileRevalidating(now int64) bool {
	return e.Flags&(NoCache|MustRevalidate|Invalidated) == 0 && e.StaleRevalidate > 0 && e.Staleness(now) < int64(e.StaleRevalidate)
}

// ServesOnError reports whether e may be used where the origin cannot be asked
// (RFC 5861, section 4; RFC 9111, section 4.2.4).
func (e *Entry) ServesOnError(now int64) bool {
	return e.Flags&(NoCache|MustRevalidate) == 0 && e.StaleError > 0 && e.Staleness(now) < int64(e.StaleError)
}

// heuristic reports whether responses of a status may be stored without a word
// of the origin (RFC 9110, section 15.1).
func heuristic(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// defaultable reports whether ttl.default is for a status. It is not for those
// that a field outside the key can bring about, an overlong one or another
// method for example: they would be there for everybody.
func defaultable(status int) bool {
	switch status {
	case 405, 414, 501:
		return false
	}
	return heuristic(status)
}

// understood reports whether the cache knows what a status means for caching
// (RFC 9111, section 3).
func understood(status int) bool {
	return status >= 200 && status <= 206 || status >= 300 && status <= 308 && status != 304 || status >= 400 && status <= 417 ||
		status >= 421 && status <= 431 || status == 451 || status >= 500 && status <= 511
}

// Rules are what a route says of caching.
type Rules struct {
	Key                         KeyRule
	MinTTL, DefaultTTL, MaxTTL  time.Duration
	Heuristic                   float64       // share of the age since Last-Modified
	StaleRevalidate, StaleError time.Duration // where the origin says nothing of it
	MaxObject                   int64         // bytes of content
	StoreCookies                bool          // responses that set cookies are stored like others
	ClientDirectives            bool          // a request's Cache-Control counts
}

// NotStored says why a response is not stored; empty if it is.
type NotStored string

// Judge decides whether the response to req may be stored (RFC 9111, section 3),
// and what is known of it if so: the entry has neither head nor content yet.
// Status 304 is not for it, and of 206 the content is for who combines it.
func (r *Rules) Judge(req *Request, res *Response) (*Entry, NotStored) {
	f := res.facts()
	return r.judge(req, res, &f)
}

func (r *Rules) judge(req *Request, res *Response, f *facts) (*Entry, NotStored) {
	if why := r.refuses(req, res, f); why != "" {
		return nil, why
	}
	lifetime, why, explicit := r.lifetime(res.Status, f, res.ReceivedAt)
	c := &f.control
	switch {
	case !explicit && !c.Public && !heuristic(res.Status):
		return nil, "no freshness"
	case !explicit && !c.Public && req.unkeyed(&r.Key):
		return nil, "cookies" // it may be theirs alone
	case !explicit && why == byNothing && f.etag == "" && f.modified.IsZero():
		return nil, "no freshness"
	}
	e := &Entry{
		Status: uint16(res.Status), Length: res.Length, Reason: why,
		RequestedAt: res.RequestedAt.UnixNano(), ReceivedAt: res.ReceivedAt.UnixNano(),
		InitialAge: uint32(initialAge(f, res.RequestedAt, res.ReceivedAt)), Lifetime: uint32(lifetime),
		StaleRevalidate: window(c, c.StaleRevalidate, r.StaleRevalidate), StaleError: window(c, c.StaleError, r.StaleError),
	}
	if !f.modified.IsZero() {
		e.Modified = f.modified.UnixNano()
	}
	e.Flags = flagsOf(f)
	if why == byHeuristic {
		e.Flags |= Heuristic
	}
	useless := int64(e.InitialAge) >= lifetime && e.StaleRevalidate == 0 && e.StaleError == 0 || e.Flags&NoCache != 0
	if useless && f.etag == "" && f.modified.IsZero() {
		return nil, "stale" // it could neither be used nor validated
	}
	e.Vary = selectionOf(f.vary, req.Fields)
	return e, ""
}

func flagsOf(f *facts) (flags Flags) {
	c := &f.control
	if c.NoCache {
		flags |= NoCache
	}
	if c.MustRevalidate || c.ProxyRevalidate {
		flags |= MustRevalidate
	}
	if c.Public || c.MustRevalidate || c.SMaxAge != absent {
		flags |= Shareable
	}
	if f.tags {
		flags |= HasTags
	}
	return flags
}

// refuses says what forbids to store a response.
func (r *Rules) refuses(req *Request, res *Response, f *facts) NotStored {
	c := &f.control
	switch {
	case res.Status < 200 || res.Status == 304:
		return "status"
	case res.Status == 206 && !req.HasRange():
		return "unasked range"
	case c.MustUnderstand && !understood(res.Status):
		return "must-understand"
	case c.NoStore && !(c.MustUnderstand && understood(res.Status)): // RFC 9111, section 5.2.2.3
		return "no-store"
	case c.Private:
		return "private"
	case r.ClientDirectives && req.control.NoStore: // RFC 9111, section 5.2.1.5
		return "request no-store"
	case f.varyStar:
		return "Vary: *"
	case len(f.vary) > maxVary:
		return "Vary"
	case req.authorized && !r.Key.hasHeader("authorization") && !(c.Public || c.MustRevalidate || c.SMaxAge != absent): // RFC 9111, section 3.5
		return "authorization"
	case f.setCookie && !r.StoreCookies && !c.Public && c.SMaxAge == absent:
		return "set-cookie"
	case res.Length > r.MaxObject:
		return "too large"
	}
	if res.Own != nil {
		for _, name := range f.vary {
			if res.Own(name) {
				return "Vary"
			}
		}
	}
	return ""
}

// window is what the response says of its own staleness, or what the route does.
// s-maxage forbids to go by the route (RFC 9111, section 5.2.2.10).
func window(c *Directives, said int64, route time.Duration) uint32 {
	if said == absent && c.SMaxAge != absent {
		said = 0
	} else if said == absent {
		said = wholeSeconds(route)
	}
	return uint32(min(said, maxSeconds))
}

// maxVary is how many fields a response may vary by.
const maxVary = 16

// hasName reports whether list holds name.
func hasName(list []string, name string) bool {
	for _, one := range list {
		if strings.EqualFold(one, name) {
			return true
		}
	}
	return false
}
