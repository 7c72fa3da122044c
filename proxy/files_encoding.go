package proxy

import (
	"io/fs"
	"strings"
	"time"
)

// fileCodings are the precompressed variants that may lie beside a file, the
// preferred first.
var fileCodings = [...]struct{ name, suffix string }{{"br", ".br"}, {"gzip", ".gz"}}

// negotiate puts a precompressed variant in rep's place if there is one that the
// client would rather have (RFC 9110, section 12.5.3). A file without variants
// is not negotiated about: it is sent as it is.
func (b *filesBackend) negotiate(rep *fileRepresentation, r *Request, name string) error {
	for _, c := range fileCodings {
		if strings.HasSuffix(name, c.suffix) {
			return nil
		}
	}
	var there [len(fileCodings)]bool
	for i, c := range fileCodings {
		info, err := b.folder.stat(name + c.suffix)
		there[i] = err == nil && usableVariant(info, rep.modified)
		rep.varies = rep.varies || there[i]
	}
	if !rep.varies {
		return nil
	}
	list, asked := fieldList(r, "Accept-Encoding")
	accepted := readAccepted(list, asked)
	for {
		best := accepted.choose(there[:])
		switch {
		case best == codingIdentity:
			return nil
		case best == codingNone:
			return &Problem{Status: 406, Detail: "the file is not there in any accepted encoding"}
		case b.useVariant(rep, name, best):
			return nil
		}
		there[best] = false // it has gone since it was looked for
	}
}

// useVariant makes rep the variant, if it is still usable.
func (b *filesBackend) useVariant(rep *fileRepresentation, name string, coding int) bool {
	c := fileCodings[coding]
	f, info, err := b.folder.open(name + c.suffix)
	if err != nil {
		return false
	}
	if !usableVariant(info, rep.modified) {
		closeFile(f)
		return false
	}
	closeFile(rep.file)
	rep.file, rep.size, rep.modified, rep.coding = f, info.Size(), info.ModTime(), c.name
	return true
}

// usableVariant says whether a variant can be one of a file of that age: an
// older one is of a former content, and an empty one was cut off, for no coding
// makes nothing of something.
func usableVariant(info fs.FileInfo, original time.Time) bool {
	return info.Mode().IsRegular() && info.Size() > 0 && !info.ModTime().Before(original)
}

const (
	codingIdentity = -1
	codingNone     = -2
)

// An accepted is what a client's Accept-Encoding says of the codings that files
// come in: weights in thousandths, 0 for not acceptable.
type accepted struct {
	weight   [len(fileCodings)]int
	identity int
}

// readAccepted reads an Accept-Encoding list (RFC 9110, section 12.5.3). Without
// the field anything is acceptable, but nothing was asked for either: then it is
// the file as it is. So it is for codings that the list does not name, and
// an element that is malformed names nothing.
func readAccepted(list string, asked bool) accepted {
	const unsaid = -1
	a := accepted{identity: unsaid}
	if !asked {
		a.identity = 1
		return a
	}
	for i := range a.weight {
		a.weight[i] = unsaid
	}
	others := unsaid
	for element := range strings.SplitSeq(list, ",") {
		name, params, weighted := strings.Cut(element, ";")
		weight, ok := 1000, true
		if weighted {
			weight, ok = parseWeight(params)
		}
		if place := a.place(strings.Trim(name, " \t"), &others); ok && place != nil && *place == unsaid {
			*place = weight
		}
	}
	for i := range a.weight {
		if a.weight[i] == unsaid {
			a.weight[i] = max(others, 0)
		}
	}
	if a.identity == unsaid {
		if a.identity = others; others == unsaid {
			a.identity = 1 // acceptable, and liked less than all that was named
		}
	}
	return a
}

// place is where the weight of a coding goes; nil for one that no file comes in.
func (a *accepted) place(name string, others *int) *int {
	switch {
	case name == "*":
		return others
	case strings.EqualFold(name, "identity"):
		return &a.identity
	case strings.EqualFold(name, "x-gzip"): // RFC 9110, section 8.4.1.3
		name = "gzip"
	}
	for i, c := range fileCodings {
		if strings.EqualFold(name, c.name) {
			return &a.weight[i]
		}
	}
	return nil
}

// choose returns the index of the coding that is there and liked most, in doubt
// the smallest, or codingIdentity, or codingNone.
func (a *accepted) choose(there []bool) int {
	best, weight := codingNone, 0
	for i, w := range a.weight {
		if there[i] && w > weight {
			best, weight = i, w
		}
	}
	if a.identity > weight {
		return codingIdentity
	}
	return best
}

// parseWeight reads a weight, "q=0.5", in thousandths (RFC 9110, section 12.4.2).
func parseWeight(s string) (int, bool) {
	s = strings.Trim(s, " \t")
	if len(s) < 3 || len(s) > 7 || s[0]|0x20 != 'q' || s[1] != '=' || s[2] != '0' && s[2] != '1' {
		return 0, false
	}
	n := int(s[2]-'0') * 1000
	if s = s[3:]; s == "" {
		return n, true
	}
	if s[0] != '.' {
		return 0, false
	}
	unit := 100
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n += int(s[i]-'0') * unit
		unit /= 10
	}
	return n, n <= 1000
}
