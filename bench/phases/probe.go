package phases

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Probe walks a user through its life at a phase's front, the same for every
// phase: it is created, read, found by its address, replaced, refused where the
// client is behind, and deleted, and each read shows the write before it. It
// returns how many answers it has looked at.
func (r *Running) Probe(ctx context.Context) (int, error) {
	p := &prober{base: "http://" + r.Front().Address + "/api/users", token: "",
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}}
	defer p.client.CloseIdleConnections()
	err := p.walk(ctx, fmt.Sprintf("probe-%d@example.com", time.Now().UnixNano()))
	return p.looked, err
}

type prober struct {
	base   string
	client *http.Client
	token  string // Sluice-Consistency of the last write
	looked int
}

type account struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Email   string `json:"email"`
	Version int64  `json:"version"`
}

type list struct {
	Users []account `json:"users"`
}

func (p *prober) walk(ctx context.Context, email string) error {
	body := func(name string) map[string]any {
		return map[string]any{"name": name, "email": email, "region": "eu-west", "attributes": map[string]any{"probe": true}}
	}
	var made, read, put account
	var found list
	if _, err := p.do(ctx, "POST", "", body("Ada"), nil, http.StatusCreated, &made); err != nil {
		return err
	}
	path := "/" + made.ID
	etag, err := p.do(ctx, "GET", path, nil, nil, http.StatusOK, &read)
	if err != nil {
		return err
	}
	if read != made || made.Name != "Ada" || made.Version != 1 || etag != `"1"` {
		return fmt.Errorf("created %+v, read %+v with ETag %s", made, read, etag)
	}
	if _, err := p.do(ctx, "POST", "", body("Eve"), nil, http.StatusConflict, nil); err != nil {
		return fmt.Errorf("the address twice: %w", err)
	}
	if _, err := p.do(ctx, "GET", "?email="+email, nil, nil, http.StatusOK, &found); err != nil {
		return err
	}
	if len(found.Users) != 1 || found.Users[0] != made {
		return fmt.Errorf("by the address: %+v", found)
	}
	for version := int64(2); version < 6; version++ {
		name := fmt.Sprintf("Ada %d", version)
		if _, err := p.do(ctx, "PUT", path, body(name), map[string]string{"If-Match": etag}, http.StatusOK, &put); err != nil {
			return err
		}
		if etag, err = p.do(ctx, "GET", path, nil, nil, http.StatusOK, &read); err != nil {
			return err
		}
		if read != put || read.Name != name || read.Version != version {
			return fmt.Errorf("put %+v, read %+v", put, read)
		}
	}
	if _, err := p.do(ctx, "PUT", path, body("Late"), map[string]string{"If-Match": `"1"`}, http.StatusPreconditionFailed, nil); err != nil {
		return fmt.Errorf("from an old version: %w", err)
	}
	if _, err := p.do(ctx, "DELETE", path, nil, nil, http.StatusNoContent, nil); err != nil {
		return err
	}
	if _, err := p.do(ctx, "GET", path, nil, nil, http.StatusNotFound, nil); err != nil {
		return fmt.Errorf("after it was deleted: %w", err)
	}
	return nil
}

// do asks with the token of the last write and holds the answer to a status.
func (p *prober) do(ctx context.Context, method, path string, in any, fields map[string]string, want int, out any) (etag string, err error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return "", err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, body)
	if err != nil {
		return "", err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range fields {
		req.Header.Set(name, value)
	}
	if p.token != "" {
		req.Header.Set("Sluice-Consistency", p.token)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, path, err)
	}
	p.looked++
	if resp.StatusCode != want {
		return "", fmt.Errorf("%s %s: %s, not %d\n%.500s", method, path, resp.Status, want, raw)
	}
	if token := resp.Header.Get("Sluice-Consistency"); token != "" {
		p.token = token
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			return "", fmt.Errorf("%s %s: %w\n%.500s", method, path, err, raw)
		}
	}
	return resp.Header.Get("ETag"), nil
}
