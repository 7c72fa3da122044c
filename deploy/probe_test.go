package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-edge/sluice/internal/smtptest"
)

// A client asks a whole, and gives back the token of its last write, as a client
// that wants to read what it wrote does.
type client struct {
	t     *testing.T
	base  string
	token string
}

// A reply is what came of one request.
type reply struct {
	status int
	header http.Header
	user   struct {
		ID, Name, Email, Region string
		Version                 int
	}
	list struct {
		Users []struct{ ID, Email string }
		Next  string `json:"next_cursor"`
	}
	text string
}

func (c *client) do(method, path, body string, fields ...string) reply {
	c.t.Helper()
	req, err := http.NewRequest(method, c.base+path, strings.NewReader(body))
	must(c.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if method == "PATCH" {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	if c.token != "" {
		req.Header.Set("Sluice-Consistency", c.token)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	hc := http.Client{Timeout: waitLimit}
	resp, err := hc.Do(req)
	must(c.t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(c.t, err)
	if token := resp.Header.Get("Sluice-Consistency"); token != "" {
		c.token = token
	}
	r := reply{status: resp.StatusCode, header: resp.Header, text: string(data)}
	if bytes.HasPrefix(data, []byte("{")) {
		must(c.t, json.Unmarshal(data, &r.user))
		must(c.t, json.Unmarshal(data, &r.list))
	}
	return r
}

func (r reply) want(t *testing.T, what string, status int) {
	t.Helper()
	if r.status != status {
		t.Fatalf("%s: status %d, want %d: %s", what, r.status, status, r.text)
	}
}

// probe is the life of a few users, the same for every phase. What an edge may
// have cached for a second is asked for until it is there.
func probe(t *testing.T, base string, mail *smtptest.Sink) {
	t.Helper()
	c := &client{t: t, base: base}
	c.do("GET", "/health", "").want(t, "health", 200)
	var ids []string
	for i := range 8 {
		r := c.do("POST", "/api/users", fmt.Sprintf(`{"name":"User %d","email":"u%d@example.com","region":"eu-west"}`, i, i),
			"Idempotency-Key", fmt.Sprint("probe-", i))
		r.want(t, "create", 201)
		ids = append(ids, r.user.ID)
	}
	r := c.do("POST", "/api/users", `{"name":"User 0","email":"u0@example.com","region":"eu-west"}`, "Idempotency-Key", "probe-0")
	if r.status != 201 || r.user.ID != ids[0] {
		t.Errorf("the same create again: status %d, id %s, want %s", r.status, r.user.ID, ids[0])
	}
	c.do("POST", "/api/users", `{"name":"Other","email":"U0@example.com"}`).want(t, "an address that is taken", 409)
	c.do("POST", "/api/users", `{"name":7}`).want(t, "a name that is none", 400)

	path := "/api/users/" + ids[3]
	r = c.do("GET", path, "")
	r.want(t, "read", 200)
	etag := r.header.Get("ETag")
	c.do("GET", path, "", "If-None-Match", etag).want(t, "read what is known", 304)
	c.do("PATCH", path, `{"name":"Changed"}`, "If-Match", etag).want(t, "change", 200)
	c.do("PATCH", path, `{"name":"Again"}`, "If-Match", etag).want(t, "change of what has changed", 412)
	if r = c.do("GET", path, ""); r.user.Name != "Changed" {
		t.Errorf("read after write: %s", r.text)
	}
	eventually(t, "all are listed", func() bool {
		seen, cursor := map[string]bool{}, ""
		for range 8 {
			r := c.do("GET", "/api/users?limit=3&cursor="+cursor, "")
			r.want(t, "list", 200)
			for _, u := range r.list.Users {
				seen[u.ID] = true
			}
			if cursor = r.list.Next; cursor == "" {
				break
			}
		}
		for _, id := range ids {
			if !seen[id] {
				return false
			}
		}
		return len(seen) == len(ids)
	})
	eventually(t, "one is found by its address", func() bool {
		r := c.do("GET", "/api/users?email=u5@example.com", "")
		return r.status == 200 && len(r.list.Users) == 1 && r.list.Users[0].ID == ids[5]
	})
	c.do("DELETE", path, "").want(t, "delete", 204)
	c.do("GET", path, "").want(t, "read what is gone", 404)
	if mail != nil {
		eventually(t, "everybody is welcomed once", func() bool { return len(mail.Distinct()) == len(ids) })
	}
}

// eventually waits until ok holds, looking again and again at what nothing
// announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(waitLimit); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}
