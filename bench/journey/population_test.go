package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/bench/load"
)

var _ load.Population = (*population)(nil)

// request reads what the client sends as a server would.
func request(t *testing.T, raw []byte) (*http.Request, string) {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(raw))
	r, err := http.ReadRequest(in)
	if err != nil {
		t.Fatalf("%v in %q", err, raw)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n := in.Buffered(); n > 0 {
		t.Fatalf("%d bytes after the request %q", n, raw)
	}
	return r, string(body)
}

func TestRequests(t *testing.T) {
	for _, patch := range []bool{false, true} {
		p := newPopulation(12345, patch)
		for _, i := range []int{0, 9, 12344} {
			path := "/api/users/" + string(appendUUID(nil, p.ids[i]))
			if r, body := request(t, p.AppendRead(nil, i)); r.Method != "GET" || r.URL.Path != path || body != "" {
				t.Errorf("%s %s %q", r.Method, r.URL, body)
			}
			for _, value := range []uint64{0, 7, 1<<64 - 1} {
				r, body := request(t, p.AppendWrite(nil, i, value))
				var doc struct {
					Name, Email, Region string
					Attributes          struct{ Score json.Number }
				}
				if err := json.Unmarshal([]byte(body), &doc); err != nil {
					t.Fatalf("%v: %s", err, body)
				}
				score, _ := json.Marshal(value)
				if r.URL.Path != path || doc.Attributes.Score.String() != string(score) {
					t.Errorf("%s %s %s", r.Method, r.URL, body)
				}
				if patch && (r.Method != "PATCH" || doc.Email != "") || !patch && (r.Method != "PUT" || doc.Email != email(i) || doc.Name != name(i) || doc.Region != region(i)) {
					t.Errorf("%s %s", r.Method, body)
				}
			}
		}
	}
}

// TestIDs: they are UUIDv7, all different, carry the bucket of the address, and
// are the same every time.
func TestIDs(t *testing.T) {
	p, again := newPopulation(100_000, false), newPopulation(100_000, false)
	seen := map[[16]byte]bool{}
	for i, id := range p.ids {
		if seen[id] || id != again.ids[i] {
			t.Fatalf("the id %x comes twice, or another time is another", id)
		}
		seen[id] = true
		b := uint16(id[6]&0x0f)<<8 | uint16(id[7])
		if id[6]>>4 != 7 || id[8]>>6 != 2 || uint32(b) != crc32.ChecksumIEEE([]byte(email(i)))%4096 {
			t.Fatalf("%x of %s", id, email(i))
		}
	}
	if text := string(appendUUID(nil, [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255})); text != "01020304-0506-0708-090a-0b0c0d0e0fff" {
		t.Error(text)
	}
	if email(7) != "user00000007@example.com" || name(12345678) != "User 12345678" {
		t.Errorf("%s, %s", email(7), name(12345678))
	}
}

func TestCheck(t *testing.T) {
	p := newPopulation(2, false)
	of := func(i int) []byte { return append(appendUUID([]byte(`{"id":"`), p.ids[i]), `","name":"x"}`...) }
	for _, c := range []struct {
		status int
		body   []byte
		want   string
	}{
		{200, of(1), ""},
		{200, of(0), "another user"},
		{200, of(1)[:20], "another user"},
		{200, nil, "another user"},
		{503, of(1), "status 503 to a GET"},
	} {
		if why := p.Check(1, false, c.status, nil, c.body); c.want == "" && why != "" || !strings.Contains(why, c.want) {
			t.Errorf("%d %s: %q", c.status, c.body, why)
		}
	}
}

// TestIn: every user is in exactly one of the shards, in the order of the key.
func TestIn(t *testing.T) {
	p := newPopulation(5000, false)
	low, high := map[int16]bool{}, map[int16]bool{}
	for b := range int16(4096) {
		low[b], high[b] = b < 2048, b >= 2048
	}
	a, z := p.in(low), p.in(high)
	if len(a)+len(z) != 5000 || len(a) < 2000 || len(z) < 2000 {
		t.Errorf("%d and %d users", len(a), len(z))
	}
	for i := 1; i < len(a); i++ {
		if bucket(a[i]) < bucket(a[i-1]) {
			t.Fatal("out of order")
		}
	}
	if len(p.row(1)) != len(columns) || len(p.claim(1)) != len(claimColumns) {
		t.Error("rows and columns differ")
	}
}
