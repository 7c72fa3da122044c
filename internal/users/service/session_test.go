package service_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/sluice-edge/sluice/internal/redistest"
)

// redisOf is a client as the commands open it.
func redisOf(t *testing.T, address string) *redis.Client {
	t.Helper()
	redis.SetLogger(new(logging.VoidLogger)) // its errors come back from its calls
	c := redis.NewClient(&redis.Options{
		Addr: address, MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second, PoolTimeout: time.Second,
	})
	t.Cleanup(func() { c.Close() })
	return c
}

const login = `{"email":"Ada@example.com","password":"correct horse"}`

// enroll makes a user who can log in.
func (a *api) enroll() (path string) {
	a.Helper()
	r := a.want(201, "POST", "/api/users", `{"name":"Ada","email":"ada@example.com","password":"correct horse"}`)
	return r.header.Get("Location")
}

// secretIn is the session's cookie in an answer.
func secretIn(t *testing.T, r reply) string {
	t.Helper()
	for _, c := range r.header.Values("Set-Cookie") {
		if value, ok := strings.CutPrefix(c, "sluice_session="); ok {
			if !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") || !strings.Contains(c, "Max-Age=86400") {
				t.Errorf("cookie %s", c)
			}
			value, _, _ = strings.Cut(value, ";")
			return value
		}
	}
	t.Fatalf("no session in %v", r.header)
	return ""
}

// bothWays runs f with sessions in memory and in Redis; two of the same are two
// processes where server is not nil.
func bothWays(t *testing.T, f func(t *testing.T, a *api, server *redistest.Server)) {
	t.Run("memory", func(t *testing.T) { f(t, serve(t, embedded(t), nil), nil) })
	t.Run("redis", func(t *testing.T) {
		server := redistest.Start(t)
		f(t, serve(t, embedded(t), redisOf(t, server.Address)), server)
	})
}

func TestSessions(t *testing.T) {
	bothWays(t, func(t *testing.T, a *api, _ *redistest.Server) {
		path := a.enroll()
		for _, body := range []string{
			`{"email":"ada@example.com","password":"wrong horse"}`, `{"email":"nobody@example.com","password":"correct horse"}`,
		} {
			a.want(401, "POST", "/api/sessions", body)
		}
		for _, body := range []string{
			``, `{}`, `{"email":"ada@example.com"}`, `{"email":"ada","password":"x"}`, `{"email":1,"password":"x"}`,
			`{"email":"ada@example.com","password":"correct horse","admin":true}`, `{"email":"ada@example.com","password":"correct horse","bearer":1}`,
		} {
			a.want(400, "POST", "/api/sessions", body)
		}
		for _, name := range []string{"Origin", "Referer", "Sec-Fetch-Site"} { // as browsers have them
			a.want(415, "POST", "/api/sessions", login, "Content-Type", "application/x-www-form-urlencoded", name, "null")
		}
		a.want(415, "POST", "/api/sessions", login, "Content-Type", "text/plain")
		a.want(201, "POST", "/api/sessions", login, "Content-Type", "application/x-www-form-urlencoded") // curl -d

		one, two := secretIn(t, a.want(201, "POST", "/api/sessions", login)), secretIn(t, a.want(201, "POST", "/api/sessions", login))
		if one == two || len(one) < 32 {
			t.Fatalf("secrets %s, %s", one, two)
		}
		r := a.want(200, "GET", "/api/sessions", "", "Cookie", "x=y", "Cookie", "sluice_session="+one)
		if !strings.Contains(r.text, `"email":"ada@example.com"`) || secretIn(t, r) != one {
			t.Errorf("session %s", r.text)
		}
		a.want(400, "GET", "/api/sessions", "", "Cookie", "sluice_session="+one, "Sluice-Consistency", "forged")
		a.want(401, "GET", "/api/sessions", "")
		a.want(401, "GET", "/api/sessions", "", "Cookie", "sluice_session="+one+"x")
		a.want(401, "DELETE", "/api/sessions", "")
		a.want(204, "DELETE", "/api/sessions", "", "Cookie", "sluice_session="+one)
		a.want(401, "GET", "/api/sessions", "", "Cookie", "sluice_session="+one)
		a.want(401, "DELETE", "/api/sessions", "", "Cookie", "sluice_session="+one)
		a.want(200, "GET", "/api/sessions", "", "Cookie", "sluice_session="+two)

		r = a.want(201, "POST", "/api/sessions", strings.Replace(login, "}", `,"bearer":true}`, 1))
		_, token, _ := strings.Cut(r.text, `"token":"`)
		token, _, _ = strings.Cut(token, `"`)
		if token == "" || r.header.Get("Set-Cookie") != "" {
			t.Fatalf("%s, %v", r.text, r.header)
		}
		a.want(200, "GET", "/api/sessions", "", "Authorization", "Bearer "+token)

		// A new password ends what the old one has begun.
		a.want(200, "PATCH", path, `{"password":"battery staple"}`)
		a.want(401, "GET", "/api/sessions", "", "Cookie", "sluice_session="+two)
		a.want(401, "GET", "/api/sessions", "", "Authorization", "Bearer "+token)
		a.want(401, "POST", "/api/sessions", login)
		three := secretIn(t, a.want(201, "POST", "/api/sessions", strings.Replace(login, "correct horse", "battery staple", 1)))
		a.want(200, "GET", "/api/sessions", "", "Cookie", "sluice_session="+three)
		a.want(204, "DELETE", path, "")
		a.want(401, "GET", "/api/sessions", "", "Cookie", "sluice_session="+three)
	})
}

// TestLines sends fields in several lines, as HTTP/2 sends cookies: they are one
// field, of which no line is ignored.
func TestLines(t *testing.T) {
	a := serve(t, embedded(t), nil)
	path := a.enroll()
	secret := secretIn(t, a.want(201, "POST", "/api/sessions", login))
	a.want(200, "GET", "/api/sessions", "", "Cookie", "a=b", "Cookie", "sluice_session="+secret)
	a.want(412, "PATCH", path, `{"name":"Grace"}`, "If-Match", `"8"`, "If-Match", `"9"`)
	a.want(200, "PATCH", path, `{"name":"Grace"}`, "If-Match", `"9"`, "If-Match", `"1"`)
	a.want(304, "GET", path, "", "If-None-Match", `"9"`, "If-None-Match", `"2"`)
	if r := a.want(400, "POST", "/api/users", `{"name":"N","email":"n@example.com"}`, "Idempotency-Key", "a", "Idempotency-Key", "b"); a.fields(r)[0] != "Idempotency-Key" {
		t.Errorf("two keys: %s", r.text)
	}
	a.want(400, "GET", path, "", "Sluice-Consistency", a.want(200, "PATCH", path, `{}`).header.Get("Sluice-Consistency"), "Sluice-Consistency", "forged")
}

// TestRemovedAndCached removes a user whom others may go on finding for as long as
// he is cached: he is logged out all the same.
func TestRemovedAndCached(t *testing.T) {
	server := redistest.Start(t)
	spec := embedded(t)
	spec.Cache.Mode = "ttl"
	a := serve(t, spec, redisOf(t, server.Address))
	path := a.enroll()
	secret := secretIn(t, a.want(201, "POST", "/api/sessions", login))
	a.want(200, "GET", "/api/sessions", "", "Cookie", "sluice_session="+secret)
	a.want(204, "DELETE", path, "")
	a.want(200, "GET", path, "")
	a.want(401, "GET", "/api/sessions", "", "Cookie", "sluice_session="+secret)
}

// TestSessionsShared logs in at one process and out at another.
func TestSessionsShared(t *testing.T) {
	server := redistest.Start(t)
	spec := embedded(t)
	client := redisOf(t, server.Address)
	a := serve(t, spec, client)
	a.enroll()
	one := secretIn(t, a.want(201, "POST", "/api/sessions", login))
	if keys := server.Do("KEYS", "*"); strings.Contains(keys, one) {
		t.Errorf("the secret is in Redis: %s", keys)
	}
	// Another process has the same Redis; the user is in nobody's data but ours,
	// so that it can only end the session.
	b := serve(t, embedded(t), redisOf(t, server.Address))
	b.want(204, "DELETE", "/api/sessions", "", "Cookie", "sluice_session="+one)
	a.want(401, "GET", "/api/sessions", "", "Cookie", "sluice_session="+one)
}

// TestSessionsWithoutRedis: who cannot be looked up is not let in, and what cannot
// be ended is not said to have ended. Users are served all the same.
func TestSessionsWithoutRedis(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	a := serve(t, embedded(t), redisOf(t, server.Address))
	path := a.enroll()
	one := secretIn(t, a.want(201, "POST", "/api/sessions", login))
	for _, c := range []struct {
		name     string
		down, up func(*redistest.Server)
	}{
		{"killed", (*redistest.Server).Kill, (*redistest.Server).RestartWithData},
		{"hung", (*redistest.Server).Stop, (*redistest.Server).Continue},
	} {
		c.down(server)
		for _, method := range []string{"GET", "DELETE"} {
			if r := a.want(503, method, "/api/sessions", "", "Cookie", "sluice_session="+one); r.header.Get("Retry-After") == "" {
				t.Errorf("%s: %v", c.name, r.header)
			}
		}
		a.want(503, "POST", "/api/sessions", login)
		a.want(503, "PATCH", path, `{"password":"battery staple"}`)
		a.want(200, "GET", path, "")
		a.want(200, "PATCH", path, `{"name":"Ada L."}`)
		a.want(200, "GET", "/ready", "")
		if r := a.want(503, "GET", "/health", ""); !strings.Contains(r.text, `"failing":["redis"]`) {
			t.Errorf("%s: health %s", c.name, r.text)
		}
		c.up(server)
		deadline := time.Now().Add(patience)
		for a.do("GET", "/health", "").status != 200 {
			if time.Now().After(deadline) {
				t.Fatalf("%s: /health does not come back", c.name)
			}
		}
		a.want(200, "GET", "/api/sessions", "", "Cookie", "sluice_session="+one)
	}
	a.want(204, "DELETE", "/api/sessions", "", "Cookie", "sluice_session="+one)
}
