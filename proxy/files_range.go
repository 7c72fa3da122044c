package proxy

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

const (
	maxRanges       = 16  // that are answered
	maxRangesAsked  = 256 // that are looked at
	maxRangeOverlap = 2   // of the ranges asked for, before it is taken for an attack
)

// A byteRange is a part of a representation that is there.
type byteRange struct{ start, length int64 }

func (r byteRange) end() int64 { return r.start + r.length }

// contentRange is the range as Content-Range says it (RFC 9110, section 14.4).
func (r byteRange) contentRange(size int64) string {
	b := make([]byte, 0, 64)
	b = append(b, "bytes "...)
	b = strconv.AppendInt(b, r.start, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, r.end()-1, 10)
	b = append(b, '/')
	b = strconv.AppendInt(b, size, 10)
	return string(b)
}

// parseRange reads a Range field (RFC 9110, section 14.2) for a representation
// of that size, in bytes. No ranges, and satisfiable: the field is to be
// ignored, because it is malformed, has another unit, or asks for more ranges
// than anyone needs. An empty representation has no ranges; it is sent whole.
func parseRange(field string, size int64) (ranges []byteRange, satisfiable bool) {
	unit, set, ok := strings.Cut(field, "=")
	if !ok || !strings.EqualFold(strings.Trim(unit, " \t"), "bytes") || size <= 0 {
		return nil, true
	}
	asked := 0
	for spec := range strings.SplitSeq(set, ",") {
		if spec = strings.Trim(spec, " \t"); spec == "" {
			continue // an empty element of a list (RFC 9110, section 5.6.1.2)
		}
		r, ok := parseRangeSpec(spec, size)
		if asked++; !ok || asked > maxRangesAsked {
			return nil, true
		}
		if r.length > 0 {
			ranges = append(ranges, r)
		}
	}
	return ranges, len(ranges) > 0 || asked == 0
}

// parseRangeSpec reads one int-range or suffix-range (RFC 9110, section
// 14.1.1). The range is empty if it cannot be satisfied.
func parseRangeSpec(spec string, size int64) (r byteRange, ok bool) {
	first, last, ok := strings.Cut(spec, "-")
	if !ok || first == "" && last == "" {
		return byteRange{}, false
	}
	from, ok1 := parsePosition(first)
	to, ok2 := parsePosition(last)
	if !ok1 || !ok2 {
		return byteRange{}, false
	}
	switch {
	case first == "":
		to = min(to, size)
		return byteRange{size - to, to}, true
	case last == "":
		to = size - 1
	case comparePositions(last, first) < 0:
		return byteRange{}, false
	}
	if from >= size {
		return byteRange{}, true
	}
	return byteRange{from, min(to, size-1) - from + 1}, true
}

// parsePosition reads digits, of which there may be none; what is too large to
// be a position is the largest there is.
func parsePosition(digits string) (int64, bool) {
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
	}
	if digits == "" {
		return 0, true
	}
	n, _ := strconv.ParseInt(digits, 10, 64) // the largest where it is out of range
	return n, true
}

// comparePositions compares numbers by their digits, so that those beyond all
// files compare as well.
func comparePositions(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// coalesceRanges makes one of ranges that overlap or touch, and keeps the order
// in which they were asked for (RFC 9110, section 15.3.7.2). It returns none if
// the whole representation is to be sent instead: for many that overlap, for
// more bytes than there are, and for many small ones (section 17.15).
func coalesceRanges(ranges []byteRange, size int64) []byteRange {
	if len(ranges) <= 1 {
		return ranges
	}
	type placed struct {
		byteRange
		place int
	}
	sorted := make([]placed, len(ranges))
	for i, r := range ranges {
		sorted[i] = placed{r, i}
	}
	slices.SortFunc(sorted, func(a, b placed) int {
		if a.start != b.start {
			return cmp.Compare(a.start, b.start)
		}
		return a.place - b.place
	})
	merged, overlaps, sum := sorted[:1], 0, sorted[0].length
	for _, r := range sorted[1:] {
		last := &merged[len(merged)-1]
		if sum += r.length; sum > size {
			return nil
		}
		if r.start > last.end() {
			merged = append(merged, r)
			continue
		}
		if r.start < last.end() {
			overlaps++
		}
		last.length = max(last.end(), r.end()) - last.start
		last.place = min(last.place, r.place)
	}
	if overlaps > maxRangeOverlap || len(merged) > maxRanges {
		return nil
	}
	slices.SortFunc(merged, func(a, b placed) int { return a.place - b.place })
	out := ranges[:0]
	for _, r := range merged {
		out = append(out, r.byteRange)
	}
	return out
}

// A filePlan is what will be sent of a representation.
type filePlan struct {
	status       int
	media        string // Content-Type
	contentRange string // of a single range
	length       int64  // of the body, in bytes
	pieces       []filePiece
}

// planRanges lays out a 206 response: one range as it is, several as
// multipart/byteranges (RFC 9110, sections 14.6 and 15.3.7). boundary is called
// for those and returns what will not be found in the file.
func planRanges(ranges []byteRange, size int64, media string, boundary func() string) filePlan {
	if len(ranges) == 1 {
		r := ranges[0]
		return filePlan{
			status: 206, media: media, contentRange: r.contentRange(size), length: r.length,
			pieces: []filePiece{{start: r.start, length: r.length}},
		}
	}
	b := boundary()
	plan := filePlan{status: 206, media: "multipart/byteranges; boundary=" + b, pieces: make([]filePiece, 0, len(ranges)+1)}
	delimiter := "--" + b
	for _, r := range ranges {
		head := delimiter + "\r\nContent-Type: " + media + "\r\nContent-Range: " + r.contentRange(size) + "\r\n\r\n"
		plan.add(filePiece{head: []byte(head), start: r.start, length: r.length})
		delimiter = "\r\n--" + b
	}
	plan.add(filePiece{head: []byte(delimiter + "--\r\n")})
	return plan
}

func (p *filePlan) add(piece filePiece) {
	p.pieces = append(p.pieces, piece)
	p.length += int64(len(piece.head)) + piece.length
}
