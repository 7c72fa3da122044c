package service_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// TestLife takes one user from sign-up to the end.
func TestLife(t *testing.T) {
	a := serve(t, embedded(t), nil)
	r := a.want(201, "POST", "/api/users", `{"name":" Ada Lovelace ","email":"Ada@Example.COM","region":"eu-west","attributes":{"a":{"b":[1,2.50,null]}},"password":"correct horse"}`)
	u := a.user(r)
	if u.Name != "Ada Lovelace" || u.Email != "Ada@Example.COM" || u.Region != "eu-west" || string(u.Attributes) != `{"a":{"b":[1,2.50,null]}}` || u.Version != 1 {
		t.Errorf("created %+v", u)
	}
	path := "/api/users/" + u.ID
	if r.header.Get("Location") != path || r.header.Get("ETag") != `"1"` || r.header.Get("Sluice-Consistency") == "" {
		t.Errorf("header %v", r.header)
	}
	if strings.Contains(r.text, "horse") || strings.Contains(r.text, "argon") {
		t.Errorf("it shows the password: %s", r.text)
	}

	got := a.want(200, "GET", path, "")
	if got.text != r.text || got.header.Get("ETag") != `"1"` {
		t.Errorf("read %s, wrote %s", got.text, r.text)
	}
	a.want(200, "HEAD", path, "")
	for _, tag := range []string{`"1"`, `W/"1"`, `"7", "1"`, `*`} {
		if r := a.want(304, "GET", path, "", "If-None-Match", tag); r.text != "" {
			t.Errorf("a 304 with the body %q", r.text)
		}
	}
	a.want(200, "GET", path, "", "If-None-Match", `"11"`)
	a.want(304, "GET", path, "", "If-None-Match", `"11"`, "If-None-Match", `"1"`)

	a.want(412, "PUT", path, `{"name":"A","email":"a@example.com"}`, "If-Match", `"2"`)
	a.want(412, "PUT", path, `{"name":"A","email":"a@example.com"}`, "If-Match", `W/"1"`)
	a.want(412, "PUT", path, `{"name":"A","email":"a@example.com"}`, "If-Match", `"x"`)
	a.want(412, "PUT", path, `{"name":"A","email":"a@example.com","version":3}`)
	r = a.want(200, "PUT", path, `{"name":"A","email":"a@example.com"}`, "If-Match", `"9", "8"`, "If-Match", `"1"`)
	if u = a.user(r); u.Version != 2 || u.Region != "" || string(u.Attributes) != "{}" || r.header.Get("ETag") != `"2"` {
		t.Errorf("replaced by %+v", u)
	}
	// What was read can be sent back.
	r = a.want(200, "PUT", path, r.text)
	if u = a.user(r); u.Version != 3 {
		t.Errorf("version %d", u.Version)
	}

	a.want(412, "PATCH", path, `{"region":"us-east"}`, "If-Match", `"1"`)
	r = a.want(200, "PATCH", path, `{"region":"us-east","attributes":{"x":1,"y":{"z":2}}}`, "If-Match", `"3"`)
	r = a.want(200, "PATCH", path, `{"attributes":{"x":null,"y":{"w":12345678901234567890.10}}}`)
	if u = a.user(r); u.Version != 5 || u.Region != "us-east" || string(u.Attributes) != `{"y":{"w":12345678901234567890.10,"z":2}}` || u.Name != "A" {
		t.Errorf("patched to %+v, %s", u, u.Attributes)
	}
	r = a.want(200, "PATCH", path, `{"region":null,"attributes":null}`)
	if u = a.user(r); u.Region != "" || string(u.Attributes) != "{}" {
		t.Errorf("patched to %+v", u)
	}

	before := r
	for _, same := range []string{`{}`, `{"name":"A"}`, `{"region":null}`, `{"region":"","attributes":{"gone":null}}`, `{"attributes":null}`} {
		r = a.want(200, "PATCH", path, same, "If-Match", `"6"`)
		if r.text != before.text || r.header.Get("ETag") != `"6"` || r.header.Get("Sluice-Consistency") == "" {
			t.Errorf("%s made it %s, ETag %s", same, r.text, r.header.Get("ETag"))
		}
	}
	a.want(412, "PATCH", path, `{}`, "If-Match", `"5"`)
	a.want(400, "PATCH", path, `{"name":"A","colour":1}`)

	a.want(412, "DELETE", path, "", "If-Match", `"1"`)
	a.want(204, "DELETE", path, "", "If-Match", `"6"`)
	a.want(404, "GET", path, "")
	a.want(404, "DELETE", path, "")
	a.want(404, "PATCH", path, `{"name":"B"}`)
	a.want(404, "PUT", path, `{"name":"B","email":"b@example.com"}`)
}

// TestBadInput has one thing wrong in each request: the field is named, and
// nothing is stored.
func TestBadInput(t *testing.T) {
	a := serve(t, embedded(t), nil)
	u, _ := a.create("first@example.com")
	other, _ := a.create("other@example.com")
	one := "/api/users/" + u.ID
	long := strings.Repeat("x", 300)
	deep := strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20)
	person := func(rest string) string { return `{"name":"N","email":"n@example.com"` + rest + `}` }
	for _, c := range []struct {
		method, path, body string
		status             int
		field              string
		fields             []string // of the header
	}{
		{"POST", "/api/users", ``, 400, "", nil},
		{"POST", "/api/users", `{`, 400, "", nil},
		{"POST", "/api/users", `[]`, 400, "", nil},
		{"POST", "/api/users", `null`, 400, "", nil},
		{"POST", "/api/users", person("") + "x", 400, "", nil},
		{"POST", "/api/users", person("") + person(""), 400, "", nil},
		{"POST", "/api/users", "{\"name\":\"\xff\",\"email\":\"n@example.com\"}", 400, "", nil},
		{"POST", "/api/users", `{"name":"\ud800","email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", `{"name":"\ud800\u0041","email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", `{"name":"a\u0000b","email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", `{"name":"  ","email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", `{"name":5,"email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", `{"name":null,"email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", `{"name":"` + long + `","email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", `{"email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", `{"name":"N"}`, 400, "email", nil},
		{"POST", "/api/users", `{"name":"N","email":"nobody"}`, 400, "email", nil},
		{"POST", "/api/users", `{"name":"N","email":"@example.com"}`, 400, "email", nil},
		{"POST", "/api/users", `{"name":"N","email":"a b@example.com"}`, 400, "email", nil},
		{"POST", "/api/users", `{"name":"N","email":"a@exa mple.com"}`, 400, "email", nil},
		{"POST", "/api/users", `{"name":"N","email":"a@-x.com"}`, 400, "email", nil},
		{"POST", "/api/users", `{"name":"N","email":"a@b@c..com"}`, 400, "email", nil},
		{"POST", "/api/users", `{"name":"N","email":"` + long + `@example.com"}`, 400, "email", nil},
		{"POST", "/api/users", `{"name":"N","name":"M","email":"n@example.com"}`, 400, "name", nil},
		{"POST", "/api/users", person(`,"region":"Eu West"`), 400, "region", nil},
		{"POST", "/api/users", person(`,"region":7`), 400, "region", nil},
		{"POST", "/api/users", person(`,"region":"` + long + `"`), 400, "region", nil},
		{"POST", "/api/users", person(`,"attributes":[]`), 400, "attributes", nil},
		{"POST", "/api/users", person(`,"attributes":"x"`), 400, "attributes", nil},
		{"POST", "/api/users", person(`,"attributes":null`), 400, "attributes", nil},
		{"POST", "/api/users", person(`,"attributes":{"a":1,"a":2}`), 400, "attributes", nil},
		{"POST", "/api/users", person(`,"attributes":{"a":"\u0000"}`), 400, "attributes", nil},
		{"POST", "/api/users", person(`,"attributes":` + deep), 400, "attributes", nil},
		{"POST", "/api/users", person(`,"attributes":{"a":"` + strings.Repeat("x", 17<<10) + `"}`), 400, "attributes", nil},
		{"POST", "/api/users", person(`,"attributes":{"a":"` + strings.Repeat("x", 70<<10) + `"}`), 413, "-", nil},
		{"POST", "/api/users", person(`,"password":"short"`), 400, "password", nil},
		{"POST", "/api/users", person(`,"password":true`), 400, "password", nil},
		{"POST", "/api/users", person(`,"admin":true`), 400, "admin", nil},
		{"POST", "/api/users", person(`,"Name":"x"`), 400, "Name", nil},
		{"POST", "/api/users", person(`,"id":"x"`), 400, "id", nil},
		{"POST", "/api/users", person(`,"version":1`), 400, "version", nil},
		{"POST", "/api/users?x=1", person(""), 400, "x", nil},
		{"POST", "/api/users", person(""), 415, "Content-Type", []string{"Content-Type", "application/xml"}},
		{"POST", "/api/users", person(""), 415, "Content-Type", []string{"Content-Type", "application/json; charset=latin1"}},
		{"POST", "/api/users", person(""), 400, "Idempotency-Key", []string{"Idempotency-Key", "a b"}},
		{"POST", "/api/users", person(""), 400, "Idempotency-Key", []string{"Idempotency-Key", long}},
		{"POST", "/api/users", person(""), 400, "Sluice-Consistency", []string{"Sluice-Consistency", "forged"}},
		{"POST", "/api/users", `{"name":"N","email":"FIRST@example.com"}`, 409, "email", nil},

		{"PUT", one, `{"name":"N"}`, 400, "email", nil},
		{"PUT", one, person(`,"id":"` + other.ID + `"`), 400, "id", nil},
		{"PUT", one, person(`,"version":"1"`), 400, "version", nil},
		{"PUT", one, person(`,"version":0`), 400, "version", nil},
		{"PUT", one, person(`,"attributes":null`), 400, "attributes", nil},
		{"PUT", one, person(`,"created_at":1`), 400, "created_at", nil},
		{"PUT", one, person(""), 400, "If-Match", []string{"If-Match", "1"}},
		{"PUT", one, person(""), 400, "If-None-Match", []string{"If-None-Match", "*"}},
		{"PUT", one, `{"name":"N","email":"other@example.com"}`, 409, "email", nil},
		{"PATCH", one, `{"name":null}`, 400, "name", nil},
		{"PATCH", one, `{"email":""}`, 400, "email", nil},
		{"PATCH", one, `{"email":null}`, 400, "email", nil},
		{"PATCH", one, `{"version":3}`, 400, "version", nil},
		{"PATCH", one, `{"attributes":[1]}`, 400, "attributes", nil},
		{"PATCH", one, `{"colour":"red"}`, 400, "colour", nil},
		{"PATCH", one, `{"email":"other@example.com"}`, 409, "email", nil},
		{"POST", "/api/users", person(""), 415, "Content-Encoding", []string{"Content-Encoding", "gzip"}},
		{"PATCH", one, `[{"op":"remove","path":"/name"}]`, 415, "Content-Type", []string{"Content-Type", "application/json-patch+json"}},
		{"DELETE", one + "?force=1", ``, 400, "force", nil},
		{"GET", one + "?fields=name", ``, 400, "fields", nil},
		{"GET", one, ``, 400, "Sluice-Consistency", []string{"Sluice-Consistency", "Zm9yZ2Vk"}},

		{"GET", "/api/users?limit=0", ``, 400, "limit", nil},
		{"GET", "/api/users?limit=201", ``, 400, "limit", nil},
		{"GET", "/api/users?limit=ten", ``, 400, "limit", nil},
		{"GET", "/api/users?limit=1&limit=2", ``, 400, "limit", nil},
		{"GET", "/api/users?sort=name", ``, 400, "sort", nil},
		{"GET", "/api/users?email=nobody", ``, 400, "email", nil},
		{"GET", "/api/users?region=", ``, 400, "region", nil},
		{"GET", "/api/users?region=EU", ``, 400, "region", nil},
		{"GET", "/api/users?q=", ``, 400, "q", nil},
		{"GET", "/api/users?q=" + long, ``, 400, "q", nil},
		{"GET", "/api/users?q=%ff", ``, 400, "q", nil},
		{"GET", "/api/users?q=%zz", ``, 400, "", nil},
		{"GET", "/api/users?partial=yes", ``, 400, "partial", nil},
		{"GET", "/api/users?cursor=x", ``, 400, "cursor", nil},
		{"GET", "/api/users?cursor=" + strings.Repeat("A", 6000), ``, 400, "cursor", nil},
	} {
		r := a.do(c.method, c.path, c.body, c.fields...)
		named := a.fields(r)
		if r.status != c.status || c.field != "-" && !slices.Contains(named, c.field) {
			t.Errorf("%s %.60s %.80s: status %d naming %q, want %d naming %q: %s", c.method, c.path, c.body, r.status, named, c.status, c.field, r.text)
		}
	}
	for _, id := range []string{"x", "00000000-0000-0000-0000-000000000000", strings.ToUpper(u.ID), u.ID + "0", "..%2fusers", "%00"} {
		a.want(404, "GET", "/api/users/"+id, "")
	}
	for _, c := range []string{"PUT /api/users", "DELETE /api/users", "POST " + one, "TRACE /health", "POST /health", "POST /ready", "PUT /api/sessions", "POST /api/users/openapi.json"} {
		method, path, _ := strings.Cut(c, " ")
		if r := a.want(405, method, path, ""); r.header.Get("Allow") == "" {
			t.Errorf("%s: no Allow", c)
		}
	}
	if l := a.list(""); len(l.Users) != 2 || l.Users[0].Version != 1 || l.Users[1].Version != 1 {
		t.Errorf("something was stored: %+v", l)
	}
}

// TestList walks pages, whose cursors belong to their list.
func TestList(t *testing.T) {
	a := serve(t, embedded(t), nil)
	for i := range 7 {
		region := []string{"eu-west", "us-east"}[i%2]
		a.want(201, "POST", "/api/users", fmt.Sprintf(`{"name":"N%d","email":"n%d@example.com","region":%q}`, i, i, region))
	}
	var names []string
	query := "?limit=3"
	for {
		l := a.list(query)
		for _, u := range l.Users {
			names = append(names, u.Name)
		}
		if l.Next == "" {
			break
		}
		query = "?limit=3&cursor=" + l.Next
	}
	if got := strings.Join(names, " "); got != "N6 N5 N4 N3 N2 N1 N0" {
		t.Errorf("the list is %s", got)
	}
	next := a.list("?limit=1&region=eu-west").Next
	if next == "" {
		t.Fatal("no next page")
	}
	a.list("?limit=2&region=eu-west&cursor=" + next)
	a.want(400, "GET", "/api/users?cursor="+next, "")
	a.want(400, "GET", "/api/users?region=us-east&cursor="+next, "")
	for i := range next { // any other character
		forged := next[:i] + string('A'+(next[i]-'A'+1)%25) + next[i+1:]
		if r := a.do("GET", "/api/users?region=eu-west&cursor="+forged, ""); r.status != 400 || !slices.Contains(a.fields(r), "cursor") {
			t.Fatalf("a forged cursor gives %d: %s", r.status, r.text)
		}
	}
	if l := a.list("?email=" + url.QueryEscape("N3@EXAMPLE.com")); len(l.Users) != 1 || l.Users[0].Name != "N3" {
		t.Errorf("by address: %+v", l)
	}
	if l := a.list("?q=N2&partial=allow"); len(l.Users) != 1 || l.Complete == nil || !*l.Complete {
		t.Errorf("by prefix: %+v", l)
	}
	a.want(200, "HEAD", "/api/users", "")
}

// TestIdempotency sends requests again.
func TestIdempotency(t *testing.T) {
	a := serve(t, embedded(t), nil)
	body := `{"name":"N","email":"n@example.com","password":"long enough"}`
	first := a.want(201, "POST", "/api/users", body, "Idempotency-Key", "k1")
	again := a.want(201, "POST", "/api/users", body, "Idempotency-Key", "k1")
	if again.text != first.text || again.header.Get("Idempotency-Replayed") != "true" || first.header.Get("Idempotency-Replayed") != "" {
		t.Errorf("first %s, then %s %v", first.text, again.text, again.header)
	}
	if again.header.Get("Location") != first.header.Get("Location") {
		t.Error("another Location")
	}
	a.want(422, "POST", "/api/users", `{"name":"M","email":"n@example.com"}`, "Idempotency-Key", "k1")
	a.want(409, "POST", "/api/users", body, "Idempotency-Key", "k2")
}

// TestTokens gives tokens back in both ways.
// TestCrowd has many patch one user at once, none of whom has asked for a version:
// each is done.
func TestCrowd(t *testing.T) {
	a := serve(t, embedded(t), nil)
	u, _ := a.create("crowd@example.com")
	const clients, each = 40, 3
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := range each {
				body := fmt.Sprintf(`{"attributes":{"k%d.%d":1}}`, i, j)
				if r := a.do("PATCH", "/api/users/"+u.ID, body); r.status != 200 {
					t.Errorf("status %d: %s", r.status, r.text)
				}
			}
		})
	}
	wg.Wait()
	got := a.user(a.want(200, "GET", "/api/users/"+u.ID, ""))
	if n := strings.Count(string(got.Attributes), ":1"); n != clients*each || got.Version != clients*each+1 {
		t.Errorf("%d of %d patches, version %d", n, clients*each, got.Version)
	}
}

func TestTokens(t *testing.T) {
	a := serve(t, embedded(t), nil)
	u, token := a.create("n@example.com")
	path := "/api/users/" + u.ID
	a.want(200, "GET", path, "", "Sluice-Consistency", token)
	a.want(200, "GET", "/api/users", "", "Sluice-Consistency", token)
	a.want(200, "GET", path, "", "Cookie", "a=b; sluice_consistency="+token)
	a.want(200, "GET", path, "", "Cookie", "sluice_consistency=of-another-service")
	r := a.want(200, "PATCH", path, `{"name":"M"}`, "Sluice-Consistency", token)
	next := r.header.Get("Sluice-Consistency")
	if next == "" || !strings.Contains(r.header.Get("Set-Cookie"), "sluice_consistency="+next+";") {
		t.Errorf("header %v", r.header)
	}
	// Those of another directory are none here.
	b := serve(t, embedded(t), nil)
	b.want(400, "GET", "/api/users", "", "Sluice-Consistency", token)
	b.want(200, "GET", "/api/users", "", "Cookie", "sluice_consistency="+token)
}
