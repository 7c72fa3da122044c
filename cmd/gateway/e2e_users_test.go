package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
)

// A signup is what a client was told of a user.
type signup struct {
	ID      string `json:"id"`
	Email   string `json:"email"`
	Version int64  `json:"version"`
}

// TestE2EUsersKilled kills the gateway while clients write: what it has
// acknowledged is there afterwards, and no address has two users, nor one that
// nobody has.
func TestE2EUsersKilled(t *testing.T) {
	t.Parallel()
	config := fmt.Sprintf(`
listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
backends: {users: {kind: users, users: {data_dir: %q, strategy: geo, shards: [{name: a, regions: [x]}, {name: b, default: true}]}}}
routes: [{match: /api/users/*, backend: users}]
`, t.TempDir())
	var told []signup
	for round := range 3 {
		c, _ := startChild(t, config, "")
		url := "http://" + c.addresses[0] + "/api/users"
		told = append(told, writeUntilKilled(t, c, url, round)...)
	}
	if len(told) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	c, _ := startChild(t, config, "")
	url := "http://" + c.addresses[0] + "/api/users"
	for _, want := range told {
		var got signup
		if status, err := call("GET", url+"/"+want.ID, nil, &got); err != nil || status != 200 || got.Version < want.Version {
			t.Errorf("%+v is now %+v, status %d, %v", want, got, status, err)
		}
		if status, _ := call("POST", url, map[string]string{"name": "N", "email": want.Email}, nil); status != 409 {
			t.Errorf("%s is free: status %d", want.Email, status)
		}
	}
	// Whoever was not acknowledged can try again, and then it is so.
	seen := map[string]bool{}
	for next, first := "", true; next != "" || first; first = false {
		var page struct {
			Users []signup `json:"users"`
			Next  string   `json:"next_cursor"`
		}
		if status, err := call("GET", url+"?limit=200&cursor="+next, nil, &page); err != nil || status != 200 {
			t.Fatal(status, err)
		}
		for _, u := range page.Users {
			if seen[u.Email] {
				t.Errorf("%s has two users", u.Email)
			}
			seen[u.Email] = true
		}
		next = page.Next
	}
	for round := range 3 {
		for i := range 8 {
			for n := range 400 {
				email := address(round, i, n)
				if seen[email] {
					continue
				}
				if status, err := call("POST", url, map[string]string{"name": "N", "email": email}, nil); status != 201 {
					t.Fatalf("%s: status %d, %v", email, status, err)
				}
				break // those after it were not tried
			}
		}
	}
}

func address(round, client, n int) string {
	return fmt.Sprintf("c%d-%d-%d@example.com", round, client, n)
}

// writeUntilKilled has clients sign up and change users, kills the gateway in the
// middle of it, and returns what was acknowledged.
func writeUntilKilled(t *testing.T, c *child, url string, round int) []signup {
	var mu sync.Mutex
	var told []signup
	var wg sync.WaitGroup
	enough := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			for n := range 400 {
				body := map[string]string{"name": "N", "email": address(round, i, n), "region": []string{"x", "y"}[n%2]}
				var u signup
				if status, err := call("POST", url, body, &u); err != nil || status != 201 {
					return // it is dead
				}
				if n%3 == 0 {
					// Where it fails u is what the sign-up was answered with.
					_, _ = call("PATCH", url+"/"+u.ID, map[string]string{"name": "M"}, &u)
				}
				mu.Lock()
				told = append(told, u)
				if len(told) == 60 {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	select {
	case <-enough:
	case <-ended:
		t.Error("the clients ended by themselves")
	}
	c.kill()
	<-ended
	return told
}

// call sends JSON and reads JSON.
func call(method, url string, body, into any) (status int, err error) {
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	client := http.Client{Timeout: patience}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		return 0, err
	}
	if into == nil || resp.StatusCode > 299 {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.Unmarshal(text, into)
}
