package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// An upstream is a raw server that plays a script and keeps every byte that
// reached it. Each connection plays the next part; the last part serves all
// connections after it.
type upstream struct {
	ln    net.Listener
	parts []play
	ev    *events

	mu     sync.Mutex
	heard  []*transcript // of each connection
	faults []error       // of plays that did not go as written
	conns  []net.Conn
	count  *transcript // one byte a connection
	wg     sync.WaitGroup
}

func startUpstream(ln net.Listener, script string, ev *events) *upstream {
	u := &upstream{ln: ln, parts: plays(script), ev: ev, count: newTranscript()}
	u.wg.Go(u.serve)
	return u
}

func (u *upstream) serve() {
	for n := 0; ; n++ {
		conn, err := u.ln.Accept()
		if err != nil {
			return
		}
		heard := newTranscript()
		u.mu.Lock()
		u.heard, u.conns = append(u.heard, heard), append(u.conns, conn)
		u.mu.Unlock()
		_, _ = u.count.Write([]byte{'.'}) // cannot fail
		part := u.parts[min(n, len(u.parts)-1)]
		u.wg.Go(func() { u.play(n, newActor(conn, heard, u.ev), part) })
	}
}

func (u *upstream) play(n int, a *actor, part play) {
	defer a.conn.Close()
	err := a.perform(part)
	if err == nil {
		_ = a.direct("eof", "") // the end of a play waits for it
		return
	}
	if _, ended := a.heard.now(); ended != nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return // the gateway left: what it sent is compared
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults = append(u.faults, fmt.Errorf("connection %d of the upstream: %w", n+1, err))
}

// received is all that has reached the upstream, connection after connection.
func (u *upstream) received() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var b strings.Builder
	for _, t := range u.heard {
		s, _ := t.now()
		b.WriteString(s)
	}
	return b.String()
}

// check waits until what has reached the upstream is as wanted.
func (u *upstream) check(w want) error {
	deadline := time.Now().Add(patience)
	for {
		got := u.received()
		if w.pattern.MatchString(latin(got)) {
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(append(u.faults, fmt.Errorf("the upstream received:\n%s", visible(got)))...)
		}
		u.next(50 * time.Millisecond)
	}
}

// next waits until something more reaches the upstream's last connection, or
// for limit.
func (u *upstream) next(limit time.Duration) {
	u.mu.Lock()
	t := u.count
	if n := len(u.heard); n > 0 {
		t = u.heard[n-1]
	}
	u.mu.Unlock()
	before, _ := t.now()
	err := t.until(limit, func(s string, _ error) bool { return len(s) > len(before) })
	if err != nil && err != errImpatient { // ended: another connection may come
		n, _ := u.count.now()
		_ = u.count.until(limit, func(s string, _ error) bool { return len(s) > len(n) }) // looked at next
	}
}

// accepted waits until there have been n connections.
func (u *upstream) accepted(n int) error {
	return u.count.until(patience, func(s string, _ error) bool { return len(s) >= n })
}

// close ends the upstream and returns what did not go as its script says.
func (u *upstream) close() error {
	u.ln.Close()
	u.mu.Lock()
	for _, c := range u.conns {
		c.Close()
	}
	u.mu.Unlock()
	u.wg.Wait()
	return errors.Join(u.faults...)
}

// selfSigned makes a certificate for name and returns it also as PEM.
func selfSigned(name string) (tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	return selfSignedBy(key, name)
}

// selfSignedBy is selfSigned with a key that there is.
func selfSignedBy(key *ecdsa.PrivateKey, name string) (tls.Certificate, []byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
