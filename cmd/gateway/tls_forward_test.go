package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// What takes short ways without TLS arrives whole with it: bodies that the
// kernel would move, files, tunnels, bodies of clients of HTTP/1.0.
func TestForwardOverTLS(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // 4 MiB
	put(t, dir, "public/large.bin", string(large))
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/known":
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			_, _ = w.Write(large)
		case "/chunked":
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write(large)
		case "/count":
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d %s", n, r.Header.Get("X-Forwarded-Proto"))
		case "/up":
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			_, _ = io.Copy(c, rw)
		}
	}))
	defer origin.Close()
	r := run(t, listenTLS(dir, "")+`
admin: {address: ""}
shutdown: {grace: 0s}
backends: {o: {targets: ["`+origin.URL+`"]}, f: {kind: files, root: `+dir+`/public}}
routes: [{match: /*, backend: o}, {match: /large.bin, backend: f}]
`)
	address := r.address("127.0.0.1:0")
	cfg := &tls.Config{RootCAs: authorities(t, dir+"/ca.pem"), ServerName: "localhost"}
	s := dialTLS(t, address, cfg)
	for _, path := range []string{"/known", "/chunked", "/large.bin"} {
		resp, err := s.client.Get("https://localhost" + path)
		must(t, err)
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(got, large) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	resp, err := s.client.Post("https://localhost/count", "text/plain", bytes.NewReader(large))
	must(t, err)
	got, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if string(got) != fmt.Sprintf("%d https", len(large)) {
		t.Errorf("the origin counted %q", got)
	}

	up := raw(t, address, cfg)
	_, err = io.WriteString(up, "GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
	must(t, err)
	br := bufio.NewReader(up)
	switched, err := http.ReadResponse(br, nil)
	must(t, err)
	_, err = io.WriteString(up, " late")
	must(t, err)
	must(t, up.CloseWrite())
	if echoed, err := io.ReadAll(br); switched.StatusCode != 101 || string(echoed) != "early late" || err != nil {
		t.Errorf("status %d, %q, %v", switched.StatusCode, echoed, err)
	}

	old := raw(t, address, cfg)
	_, err = io.WriteString(old, "GET /chunked HTTP/1.0\r\nHost: localhost\r\n\r\n")
	must(t, err)
	// The end of the connection ends the body, so TLS has to vouch for it.
	if all, err := io.ReadAll(old); err != nil || !bytes.HasSuffix(all, large) {
		t.Errorf("%d bytes, %v", len(all), err)
	}
}

// A target that breaks off in the middle is not taken for one that has ended.
func TestTruncationOverTLS(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, strings.Repeat("x", 100<<10))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer origin.Close()
	r := run(t, listenTLS(dir, "")+"\nadmin: {address: \"\"}\nshutdown: {grace: 0s}\nbackends: {o: {targets: [\""+origin.URL+"\"]}}\nroutes: [{match: /*, backend: o}]\n")
	cfg := &tls.Config{RootCAs: authorities(t, dir+"/ca.pem"), ServerName: "localhost"}
	for _, version := range []string{"1.1", "1.0"} {
		c := raw(t, r.address("127.0.0.1:0"), cfg)
		_, err := io.WriteString(c, "GET / HTTP/"+version+"\r\nHost: localhost\r\n\r\n")
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		if err == nil || os.IsTimeout(err) {
			t.Errorf("HTTP/%s: the cut body ended with %v", version, err)
		}
	}
}

// raw is a TLS connection to do anything with.
func raw(t *testing.T, address string, cfg *tls.Config) *tls.Conn {
	t.Helper()
	c := dialTLS(t, address, cfg).Conn
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(waitLimit)))
	return c
}

// While certificates change nobody notices.
func TestCertificatesUnderLoad(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	r := run(t, says("hello", `admin: {address: ""}`, "shutdown: {grace: 0s}", listenTLS(dir, "")))
	address := r.address("127.0.0.1:0")
	cfg := &tls.Config{RootCAs: authorities(t, dir+"/ca.pem"), ServerName: "localhost"}
	var wg sync.WaitGroup
	var stop atomic.Bool
	defer func() {
		stop.Store(true)
		wg.Wait()
	}()
	for i := range 6 {
		wg.Go(func() {
			tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: i%2 == 0}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: waitLimit}
			for !stop.Load() {
				resp, err := client.Get("https://" + address)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(body) != "hello" {
					t.Errorf("got %q, %v", body, err)
				}
			}
		})
	}
	for i := range 5 {
		name := fmt.Sprintf("n%d.example", i)
		certify(t, dir, name)
		next := &tls.Config{RootCAs: cfg.RootCAs, ServerName: name}
		for end := time.Now().Add(waitLimit); ; time.Sleep(10 * time.Millisecond) { // lint:sleep polls
			c, err := tls.DialWithDialer(&net.Dialer{Timeout: waitLimit}, "tcp", address, next)
			if err == nil {
				c.Close()
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
}
