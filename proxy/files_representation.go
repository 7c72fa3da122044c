package proxy

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// maxInMemory is the size up to which a file's body is read at once, in bytes.
const maxInMemory = 16 << 10

// A fileRepresentation is what is chosen to be sent of a file: its own bytes or
// those of a precompressed variant (RFC 9110, section 3.2).
type fileRepresentation struct {
	file     *os.File
	size     int64
	modified time.Time
	media    string
	coding   string // Content-Encoding; empty for none
	varies   bool   // another one could have been chosen
}

// validators are what conditions are compared with. A time at the very
// beginning is no time but what reproducible builds write: two contents of one
// size could not be told apart by it.
func (r *fileRepresentation) validators() validators {
	if r.modified.Unix() <= 1 {
		return validators{}
	}
	tag := append(make([]byte, 0, 40), '"')
	tag = strconv.AppendInt(tag, r.modified.UnixNano(), 16)
	tag = append(tag, '-')
	tag = strconv.AppendInt(tag, r.size, 16)
	if r.coding != "" {
		tag = append(append(tag, '-'), r.coding...)
	}
	return validators{tag: string(append(tag, '"')), modified: r.modified}
}

// answer makes x's response. served tells that the file now belongs to it.
func (r *fileRepresentation) answer(x *Exchange, now time.Time) (served bool, err error) {
	current, out := r.validators(), &x.Response
	switch current.judge(&x.Request) {
	case conditionFailed:
		return false, &Problem{Status: 412, Detail: "the file is not what the request's condition says"}
	case conditionNotModified:
		out.Status = 304
		r.addShared(&out.Header, current)
		return false, nil
	}
	plan, ok := r.plan(&x.Request, current, now)
	if !ok {
		(&Problem{Status: 416, Detail: "the file has none of the ranges asked for"}).write(x)
		out.Header.Add("Content-Range", "bytes */"+strconv.FormatInt(r.size, 10))
		return false, nil
	}
	r.addShared(&out.Header, current)
	r.addOwn(&out.Header, current, now)
	out.Header.Add("Content-Type", plan.media)
	if plan.contentRange != "" {
		out.Header.Add("Content-Range", plan.contentRange)
	}
	out.Status, out.ContentLength = plan.status, plan.length
	if x.Request.IsHead() {
		return false, nil
	}
	return r.attach(out, plan)
}

// plan says what of r is sent. It is not ok if the ranges asked for are not
// there. Only GET knows ranges (RFC 9110, section 14.2).
func (r *fileRepresentation) plan(req *Request, current validators, now time.Time) (filePlan, bool) {
	if string(req.Method) == "GET" {
		field, ok := req.Lookup("Range")
		if ok && fieldCount(req, "Range") == 1 && current.rangeApplies(req, now) {
			ranges, satisfiable := parseRange(field, r.size)
			if !satisfiable {
				return filePlan{}, false
			}
			if ranges = coalesceRanges(ranges, r.size); len(ranges) > 0 {
				return planRanges(ranges, r.size, r.media, rand.Text), true
			}
		}
	}
	return filePlan{status: 200, length: r.size, media: r.media, pieces: []filePiece{{length: r.size}}}, true
}

// addShared adds the fields that a 304 has in common with the 200 (RFC 9110,
// section 15.4.5).
func (r *fileRepresentation) addShared(h *Header, current validators) {
	if current.tag != "" {
		h.Add("ETag", current.tag)
	}
	if r.varies {
		h.Add("Vary", "Accept-Encoding")
	}
}

// addOwn adds the fields that only a response with content has.
func (r *fileRepresentation) addOwn(h *Header, current validators, now time.Time) {
	if m := current.modified; !m.IsZero() {
		if m.After(now) { // never later than Date (RFC 9110, section 8.8.2.1)
			m = now
		}
		h.Add("Last-Modified", m.UTC().Format(http.TimeFormat))
	}
	if r.coding != "" {
		h.Add("Content-Encoding", r.coding)
	}
	h.Add("Accept-Ranges", "bytes")
}

// attach makes the body: in memory where it is small, else from the file.
func (r *fileRepresentation) attach(out *Response, plan filePlan) (served bool, err error) {
	body := &fileBody{file: r.file, rest: plan.pieces}
	if plan.length > maxInMemory {
		out.Body = body
		return true, nil
	}
	if plan.length == 0 {
		return false, nil
	}
	all := make([]byte, plan.length)
	if _, err := io.ReadFull(body, all); err != nil {
		return false, &Problem{Status: 503, Detail: "the file is being changed", RetryAfter: time.Second, Err: fmt.Errorf("read %s: %w", r.file.Name(), err)}
	}
	out.Body = &memoryBody{all: all}
	return false, nil
}
