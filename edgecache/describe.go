package edgecache

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Description tells people of a resource.
type Description struct {
	Key      string               `json:"key"`
	Method   string               `json:"method"`
	URL      string               `json:"url"`
	With     []string             `json:"with,omitempty"` // what else is in the key
	Uses     int                  `json:"uses,omitempty"` // lately
	Bytes    int                  `json:"bytes"`
	Passed   string               `json:"passed_until,omitempty"` // its responses could not be stored
	Variants []VariantDescription `json:"variants"`
}

// A VariantDescription tells people of one stored response.
type VariantDescription struct {
	Status          int               `json:"status"`
	State           string            `json:"state"`
	Age             int64             `json:"age"`      // seconds
	Lifetime        uint32            `json:"lifetime"` // seconds
	By              string            `json:"by"`       // what the lifetime comes from
	StaleRevalidate uint32            `json:"stale_while_revalidate,omitempty"`
	StaleError      uint32            `json:"stale_if_error,omitempty"`
	Received        time.Time         `json:"received"`
	Length          int64             `json:"length"`
	Complete        bool              `json:"complete"`
	Parts           []string          `json:"parts,omitempty"`
	Flags           []string          `json:"flags,omitempty"`
	Vary            map[string]string `json:"vary,omitempty"`
	ETag            string            `json:"etag,omitempty"`
	LastModified    string            `json:"last_modified,omitempty"`
	Tags            []string          `json:"tags,omitempty"`
	Head            []string          `json:"head"`
}

// DescribeText tells of a key what it is made of.
func DescribeText(text string) (d Description) {
	parts := strings.Split(text, "\x00")
	d.Method, d.URL, _ = strings.Cut(parts[0], " ")
	for i, part := range parts[1:] {
		part = strings.ReplaceAll(part, "\x01", " ")
		switch {
		case i == 0:
			part = "route " + part
		case strings.HasPrefix(part, "h"):
			part = "header " + part[1:]
		case strings.HasPrefix(part, "c"):
			part = "cookie " + part[1:]
		case strings.HasPrefix(part, "p"):
			part = "peer's " + part[1:]
		case strings.HasPrefix(part, "t"):
			part = "content's " + part[1:]
		case strings.HasPrefix(part, "b"):
			part = "content sha256 " + part[1:]
		}
		d.With = append(d.With, part)
	}
	return d
}

// describe tells of r, whose entries verdict is asked about.
func describe(k Key, r *Resource, verdict func(*Resource, *Entry) Verdict, now time.Time) Description {
	d := DescribeText(r.Text)
	d.Key, d.Bytes = k.String(), r.Size()
	if r.PassUntil > now.UnixNano() {
		d.Passed = time.Unix(0, r.PassUntil).UTC().Format(time.RFC3339)
	}
	d.Variants = make([]VariantDescription, 0, len(r.Variants))
	for _, e := range r.Variants {
		v := e.describe(now)
		switch verdict(r, e) {
		case Purged:
			v.State = "purged"
		case Doubted:
			v.State = "doubted"
		case Stale:
			v.State = "softly purged"
		}
		d.Variants = append(d.Variants, v)
	}
	return d
}

func (e *Entry) describe(now time.Time) VariantDescription {
	at := now.UnixNano()
	v := VariantDescription{
		Status: int(e.Status), Age: e.Age(at), Lifetime: e.Lifetime, By: e.Reason.String(), State: "stale",
		StaleRevalidate: e.StaleRevalidate, StaleError: e.StaleError, Received: e.Received().UTC(), Length: e.Length, Complete: e.Complete(),
	}
	switch {
	case e.Fresh(at):
		v.State = "fresh"
	case e.ServesWhileRevalidating(at):
		v.State = "stale, served while it is validated"
	}
	for _, p := range e.Parts {
		v.Parts = append(v.Parts, strconv.FormatInt(p.Start, 10)+"-"+strconv.FormatInt(p.Start+int64(len(p.Data))-1, 10))
	}
	for i, name := range flagNames {
		if e.Flags&(1<<i) != 0 {
			v.Flags = append(v.Flags, name)
		}
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(e.Vary, "\n"), "\n") {
		if name, value, ok := strings.Cut(line, "\x00"); ok {
			if v.Vary == nil {
				v.Vary = map[string]string{}
			}
			v.Vary[name] = strings.TrimPrefix(value, "=")
		}
	}
	e.Tags(func(tag string) bool { v.Tags = append(v.Tags, tag); return len(v.Tags) < maxShown })
	v.ETag, _ = e.Lookup("ETag")
	v.LastModified, _ = e.Lookup("Last-Modified")
	v.ETag, v.LastModified = strings.Clone(v.ETag), strings.Clone(v.LastModified)
	for _, f := range fieldsOf(e.Head) {
		if equalFold(f.Name, "Set-Cookie") {
			f.Value = []byte("…") // it opens doors
		}
		v.Head = append(v.Head, string(f.Name)+": "+string(f.Value))
	}
	return v
}

const maxShown = 50

var flagNames = [...]string{"no-cache", "must-revalidate", "heuristic", "tags", "shareable", "invalidated"}

// Describe tells of what is stored for a URL, with whatever is in the keys beside
// it, at most limit of them.
func (c *Cache) Describe(url string, limit int, now time.Time) []Description {
	out := []Description{}
	verdict := func(*Resource, *Entry) Verdict { return Valid }
	if c.purger != nil {
		verdict = c.purger.Verdict
	}
	c.store.Each(func(k Key, r *Resource) bool {
		if r.URL() == url {
			out = append(out, describe(k, r, verdict, now))
		}
		return len(out) < limit
	})
	return out
}

// Underway is how many bytes of contents are being fetched to be stored.
func (c *Cache) Underway() int64 { return c.underway.Load() }

// Top tells of the n resources that were used most lately.
func (m *Memory) Top(n int, now time.Time) []Description {
	type use struct {
		segment *segment
		off     int
		score   int
	}
	var best []use
	order := func(a, b use) int { return cmp.Compare(b.score, a.score) }
	m.records(func(s *segment, off int) bool {
		if one := (use{s, off, score(s.hits(off))}); len(best) < n || one.score > best[len(best)-1].score {
			at, _ := slices.BinarySearchFunc(best, one, order)
			best = slices.Insert(best, at, one)
			best = best[:min(n, len(best))]
		}
		return true
	})
	out := make([]Description, 0, len(best))
	for _, one := range best {
		if r := one.segment.resource(one.off); r != nil {
			d := describe(one.segment.key(one.off), r, func(*Resource, *Entry) Verdict { return Valid }, now)
			d.Uses = one.score / scoreUnit
			out = append(out, d)
		}
	}
	return out
}
