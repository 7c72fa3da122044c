//lint:file-ignore SA1019 net/http's client would ask again, and so hide what is lost

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// overHTTP2 runs f for HTTP/2 without TLS, and with it.
func overHTTP2(t *testing.T, f func(t *testing.T, p *protocol)) {
	for _, p := range protocols(t)[1:] {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			f(t, p)
		})
	}
}

// startSpeaking runs a gateway that speaks p over the config; its certificate is
// in dir.
func startSpeaking(t *testing.T, p *protocol, dir, config string) (c *child, path string) {
	t.Helper()
	check(t, p.writeCertificate(dir))
	return startChild(t, p.listener(config, dir), "")
}

// A h2Client is one connection. It does not connect again, nor ask again.
type h2Client struct {
	*http2.ClientConn
	url   string
	heard *transcript // what the gateway sent, decrypted
}

func (p *protocol) openHTTP2(addr string) (*h2Client, error) {
	conn, err := dial(addr)
	if err != nil {
		return nil, err
	}
	if p.tls != nil {
		cfg := p.tls.Clone()
		cfg.NextProtos = []string{"h2"}
		secure := tls.Client(conn, cfg)
		if err := errors.Join(secure.SetDeadline(time.Now().Add(patience)), secure.Handshake(), secure.SetDeadline(time.Time{})); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secure
	}
	c := &h2Client{url: p.scheme + "://" + addr, heard: newTranscript()}
	c.ClientConn, err = (&http2.Transport{AllowHTTP: true}).NewClientConn(&tappedConn{conn, c.heard})
	return c, err
}

// A tappedConn writes down what is read.
type tappedConn struct {
	net.Conn
	heard *transcript
}

func (c *tappedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	_, _ = c.heard.Write(p[:n]) // cannot fail
	if err != nil {
		c.heard.end(err)
	}
	return n, err
}

// goAways are the codes of the GOAWAY frames in what was heard.
func goAways(heard string) (codes []http2.ErrCode) {
	frames := http2.NewFramer(io.Discard, strings.NewReader(heard))
	for {
		f, err := frames.ReadFrame()
		if err != nil {
			return codes
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			codes = append(codes, g.ErrCode)
		}
	}
}

// ask makes one request, whose answer must be 200 and the text.
func (c *h2Client) ask(method, path string, body io.Reader, text string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(got) != text) {
		err = fmt.Errorf("%s, %s, %q", resp.Status, resp.Header.Get("Proxy-Status"), got)
	}
	return resp, err
}

// On SIGTERM clients hear GOAWAY; the streams that are open end as they would
// have, and then the gateway does.
func TestE2EDrainHTTP2(t *testing.T) {
	overHTTP2(t, func(t *testing.T, p *protocol) {
		const streams = 20
		o := newOrigin(t)
		c, _ := startSpeaking(t, p, t.TempDir(), toOrigin(o, "a"))
		busy, err := p.openHTTP2(c.addresses[0])
		check(t, err)
		defer busy.Close()
		idle, err := p.openHTTP2(c.addresses[0])
		check(t, err)
		defer idle.Close()
		_, err = idle.ask("GET", "/who", nil, "origin\n")
		check(t, err)

		ends := make(chan error, streams+1)
		for range streams {
			go func() {
				_, err := busy.ask("GET", "/wait/go", nil, "")
				ends <- err
			}()
		}
		pr, pw := io.Pipe()
		go func() {
			_, err := busy.ask("POST", "/count", pr, "8 <nil>\n")
			ends <- err
		}()
		_, err = io.WriteString(pw, "half")
		check(t, err)
		check(t, waitFor(func() error { return hasMetric(c, fmt.Sprintf("http_requests_in_flight %d", streams+1)) }))

		check(t, c.cmd.Process.Signal(syscall.SIGTERM))
		for name, client := range map[string]*h2Client{"busy": busy, "idle": idle} {
			err := client.heard.until(patience, func(heard string, _ error) bool { return len(goAways(heard)) > 0 })
			if err != nil {
				t.Errorf("no GOAWAY on the %s connection: %v", name, err)
			}
		}
		if _, err := busy.ask("GET", "/who", nil, ""); err == nil {
			t.Error("after GOAWAY a stream was opened")
		}
		if len(ends) > 0 {
			t.Errorf("a stream ended early: %v", <-ends)
		}
		o.events.happen("go")
		_, err = io.WriteString(pw, "half")
		check(t, errors.Join(err, pw.Close()))
		for range streams + 1 {
			if err := <-ends; err != nil {
				t.Errorf("a stream that was open: %v", err)
			}
		}
		check(t, c.wait())
		for _, client := range []*h2Client{busy, idle} {
			heard, _ := client.heard.now()
			for _, code := range goAways(heard) {
				if code != http2.ErrCodeNo {
					t.Errorf("GOAWAY says %v", code)
				}
			}
		}
	})
}

// Reloads, and certificates that change, cost no request and no connection.
func TestE2EReloadHTTP2(t *testing.T) {
	overHTTP2(t, func(t *testing.T, p *protocol) {
		const clients, streams, reloads = 10, 5, 20
		o := newOrigin(t)
		dir := t.TempDir()
		configs := []string{p.listener(toOrigin(o, "even"), dir), p.listener(toOrigin(o, "odd"), dir)}
		c, path := startSpeaking(t, p, dir, toOrigin(o, "even"))

		var stop atomic.Bool
		var answers atomic.Int64
		var seen sync.Map
		var wg sync.WaitGroup
		defer func() {
			stop.Store(true)
			wg.Wait()
		}()
		load := func(client *h2Client) {
			resp, err := client.ask("POST", "/count", strings.NewReader("body"), "4 <nil>\n")
			if err != nil {
				t.Errorf("a request failed: %v", err)
				stop.Store(true)
				return
			}
			seen.Store(resp.Header.Get("X-Config"), true)
			answers.Add(1)
		}
		for range clients {
			client, err := p.openHTTP2(c.addresses[0])
			check(t, err)
			t.Cleanup(func() { client.Close() }) // when nobody asks any more
			for range streams {
				wg.Go(func() {
					for !stop.Load() {
						load(client)
					}
				})
			}
		}
		wg.Go(func() { // new connections, too
			for !stop.Load() {
				client, err := p.openHTTP2(c.addresses[0])
				if err != nil {
					t.Errorf("a new connection: %v", err)
					return
				}
				load(client)
				client.Close()
			}
		})
		for n := 1; n <= reloads; n++ {
			before := answers.Load()
			check(t, os.WriteFile(path+".next", []byte(configs[n%2]), 0o600))
			check(t, os.Rename(path+".next", path))
			check(t, c.cmd.Process.Signal(syscall.SIGHUP))
			check(t, c.log.until(patience, func(log string, _ error) bool { return strings.Count(log, `"why":"SIGHUP"`) == n }))
			if p.tls != nil && n%5 == 0 {
				p.swapCertificate(t, c, dir, n/5)
			}
			check(t, waitFor(func() error {
				if answers.Load() < before+clients && !stop.Load() {
					return errors.New("the answers do not come")
				}
				return nil
			}))
		}
		stop.Store(true)
		wg.Wait()
		t.Logf("%d answers, %d reloads", answers.Load(), reloads)
		for _, config := range []string{"even", "odd"} {
			if _, ok := seen.Load(config); !ok {
				t.Errorf("no answer by the config %s", config)
			}
		}
		if log, _ := c.log.now(); strings.Contains(log, "ERROR") {
			t.Errorf("the log has errors:\n%s", log)
		}
		check(t, c.stop())
	})
}

// swapCertificate has p's listener get its other certificate, for the nth time.
func (p *protocol) swapCertificate(t *testing.T, c *child, dir string, n int) {
	t.Helper()
	p.cert, p.next = p.next, p.cert
	next := filepath.Join(dir, "next.pem")
	check(t, os.WriteFile(next, p.cert, 0o600))
	check(t, os.Rename(next, filepath.Join(dir, "gateway.pem")))
	check(t, c.log.until(patience, func(log string, _ error) bool { return strings.Count(log, `"msg":"new certificates"`) == n }))
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", c.addresses[0], p.tls)
	check(t, err)
	defer conn.Close()
	if block, _ := pem.Decode(p.cert); !bytes.Equal(conn.ConnectionState().PeerCertificates[0].Raw, block.Bytes) {
		t.Error("a new connection gets the old certificate")
	}
}
