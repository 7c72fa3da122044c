package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// A population is the users that are in the databases. Number i is the same user
// in every phase.
type population struct {
	ids   [][16]byte
	patch bool // writes are PATCH of one attribute instead of PUT
}

// born is when user 0 was created; each is a millisecond younger than the one
// before.
var born = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

var regions = []string{"eu-west", "eu-north", "us-east", "ap-south"}

func newPopulation(n int, patch bool) *population {
	p := &population{ids: make([][16]byte, n), patch: patch}
	for i := range p.ids {
		p.ids[i] = newID(i)
	}
	return p
}

func email(i int) string      { return string(appendEmail(nil, i)) }
func name(i int) string       { return string(appendName(nil, i)) }
func region(i int) string     { return regions[i%len(regions)] }
func bucket(i int) int16      { return int16(crc32.ChecksumIEEE(appendEmail(nil, i)) % 4096) } // internal/shard, KeyBucket
func score(i int) uint64      { return mix(uint64(i)) % 1_000_000 }
func opOf(i int) [16]byte     { return uuid(4, mix(uint64(i)+3), mix(uint64(i)+4)) }
func at(i int) time.Time      { return born.Add(time.Duration(i) * time.Millisecond) }
func attributes(i int) string { return string(appendAttributes(nil, i, score(i))) }

func appendEmail(b []byte, i int) []byte {
	return append(appendNumber(append(b, "user"...), i), "@example.com"...)
}

func appendName(b []byte, i int) []byte { return appendNumber(append(b, "User "...), i) }

func appendNumber(b []byte, i int) []byte {
	const digits = "00000000"
	n := strconv.AppendInt(make([]byte, 0, 20), int64(i), 10)
	return append(append(b, digits[min(len(n), len(digits)):]...), n...)
}

// appendAttributes is some of what a service knows of a user, about 150 bytes.
func appendAttributes(b []byte, i int, score uint64) []byte {
	b = append(b, `{"plan":"team","score":`...)
	b = strconv.AppendUint(b, score, 10)
	b = append(b, `,"locale":"en","theme":"dark","avatar":"/avatars/`...)
	b = appendNumber(b, i)
	return append(b, `.webp","about":"reads more than it writes, as most do"}`...)
}

// newID is a UUIDv7 that carries the user's bucket, as internal/shard makes it.
func newID(i int) [16]byte {
	id := uuid(7, 0, mix(uint64(i)+1))
	ms := uint64(at(i).UnixMilli())
	for j := range 6 {
		id[j] = byte(ms >> (40 - 8*j))
	}
	b := bucket(i)
	id[6], id[7] = 0x70|byte(b>>8), byte(b)
	return id
}

func uuid(version byte, hi, lo uint64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], hi)
	binary.BigEndian.PutUint64(id[8:], lo)
	id[6], id[8] = version<<4|id[6]&0x0f, 0x80|id[8]&0x3f
	return id
}

// mix is splitmix64's finalizer: any number from any other, for ever the same.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func appendUUID(b []byte, id [16]byte) []byte {
	const hex = "0123456789abcdef"
	for i, c := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, hex[c>>4], hex[c&15])
	}
	return b
}

const host = " HTTP/1.1\r\nHost: journey.test\r\n"

// Len is how many users there are.
func (p *population) Len() int { return len(p.ids) }

// AppendRead appends a GET of a user.
func (p *population) AppendRead(b []byte, i int) []byte {
	b = appendUUID(append(b, "GET /api/users/"...), p.ids[i])
	return append(b, host+"\r\n"...)
}

// AppendWrite appends a PUT of a user, or a PATCH of its score.
func (p *population) AppendWrite(b []byte, i int, value uint64) []byte {
	if p.patch {
		b = appendUUID(append(b, "PATCH /api/users/"...), p.ids[i])
		n := strconv.AppendUint(make([]byte, 0, 20), value, 10)
		b = append(b, host+"Content-Type: application/merge-patch+json\r\nContent-Length: "...)
		b = strconv.AppendInt(b, int64(len(`{"attributes":{"score":}}`)+len(n)), 10)
		b = append(b, "\r\n\r\n"+`{"attributes":{"score":`...)
		return append(append(b, n...), "}}"...)
	}
	b = appendUUID(append(b, "PUT /api/users/"...), p.ids[i])
	b = append(b, host+"Content-Type: application/json\r\nContent-Length: 000\r\n\r\n"...)
	body := len(b)
	b = appendName(append(b, `{"name":"`...), i)
	b = appendEmail(append(b, `","email":"`...), i)
	b = append(append(b, `","region":"`...), region(i)...)
	b = appendAttributes(append(b, `","attributes":`...), i, value)
	b = append(b, '}')
	n := len(b) - body // of three digits
	b[body-7], b[body-6], b[body-5] = byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10)
	return b
}

var opening = []byte(`{"id":"`)

// Check wants a 200 about the user who was asked for.
func (p *population) Check(i int, write bool, status int, head, body []byte) string {
	if status != http.StatusOK {
		what := "GET"
		if write {
			what = "PUT"
		}
		return fmt.Sprintf("status %d to a %s", status, what)
	}
	var id [36]byte
	appendUUID(id[:0], p.ids[i])
	if rest, ok := bytes.CutPrefix(body, opening); !ok || !bytes.HasPrefix(rest, id[:]) {
		return "an answer about another user"
	}
	return ""
}

// row is a user as a row of the table users.
func (p *population) row(i int) []any {
	id, op, mail, called := p.ids[i], opOf(i), email(i), name(i)
	return []any{bucket(i), id, mail, mail, op, called, string(bytes.ToLower([]byte(called))), region(i), attributes(i), "", int64(1), op, at(i), at(i)}
}

// columns of the table users, in the order of row.
var columns = []string{"bucket", "id", "email", "email_norm", "email_op", "name", "name_key", "region", "attributes", "password_hash", "version", "last_op", "created_at", "updated_at"}

// claim is who has an address, as a row of email_claim.
func (p *population) claim(i int) []any {
	return []any{bucket(i), email(i), p.ids[i], opOf(i), "confirmed"}
}

var claimColumns = []string{"bucket", "email_norm", "user_id", "op", "state"}

// in are the users whose buckets are in a set, by bucket and id, as the primary
// key has them: rows that come in order fill pages better.
func (p *population) in(buckets map[int16]bool) []int {
	var list []int
	for i := range p.ids {
		if buckets[bucket(i)] {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b int) int {
		if c := int(bucket(a)) - int(bucket(b)); c != 0 {
			return c
		}
		return bytes.Compare(p.ids[a][:], p.ids[b][:])
	})
	return list
}
