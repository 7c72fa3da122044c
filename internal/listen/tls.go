package listen

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// TLS is how a listener proves who it is, and what it asks of its clients. It
// must not be changed once it has been handed over.
type TLS struct {
	// Certificates are chosen by the name that the client asks for: an exact one
	// before a wildcard, which stands for one label, before the first in the
	// list. Of several for a name an ECDSA one is preferred where the client takes
	// it.
	Certificates []tls.Certificate
	// ClientAuth is what is asked of clients; those that are to be verified are
	// by ClientCAs.
	ClientAuth tls.ClientAuthType
	ClientCAs  *x509.CertPool
	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13; 0: TLS 1.2.
	MinVersion uint16
}

func (t *TLS) check() error {
	if t == nil {
		return nil
	}
	if len(t.Certificates) == 0 {
		return errors.New("listen: TLS without a certificate")
	}
	for i := range t.Certificates {
		if _, err := leaf(&t.Certificates[i]); err != nil {
			return err
		}
	}
	return nil
}

// config is t for crypto/tls, with the protocols that are offered.
func (t *TLS) config(protocols []string) *tls.Config {
	names := newNames(t.Certificates)
	return &tls.Config{
		GetCertificate: names.choose,
		ClientAuth:     t.ClientAuth,
		ClientCAs:      t.ClientCAs,
		MinVersion:     max(t.MinVersion, tls.VersionTLS12),
		NextProtos:     protocols,
	}
}

// names finds certificates by the names that they are for.
type names struct {
	by       map[string][]*tls.Certificate // exact, or *.parent; in lower case
	standard []*tls.Certificate            // for all other names
}

func newNames(list []tls.Certificate) *names {
	n := &names{by: make(map[string][]*tls.Certificate)}
	for i := range list {
		cert := &list[i]
		for _, name := range Names(cert) {
			n.by[name] = append(n.by[name], cert)
		}
	}
	for _, certs := range n.by {
		preferECDSA(certs)
	}
	if len(list) > 0 {
		n.standard = []*tls.Certificate{&list[0]}
		if own := Names(&list[0]); len(own) > 0 {
			n.standard = n.by[own[0]]
		}
	}
	return n
}

func preferECDSA(certs []*tls.Certificate) {
	slices.SortStableFunc(certs, func(a, b *tls.Certificate) int { return rank(a) - rank(b) })
}

func rank(c *tls.Certificate) int {
	if l, err := leaf(c); err == nil {
		if _, ok := l.PublicKey.(*ecdsa.PublicKey); ok {
			return 0
		}
	}
	return 1
}

// Names are the DNS names and addresses that a certificate is for, in lower
// case; its common name where it has none.
func Names(c *tls.Certificate) []string {
	l, err := leaf(c)
	if err != nil {
		return nil
	}
	var all []string
	for _, name := range l.DNSNames {
		all = append(all, strings.ToLower(name))
	}
	for _, ip := range l.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			all = append(all, a.Unmap().String())
		}
	}
	if len(all) == 0 && l.Subject.CommonName != "" {
		all = append(all, strings.ToLower(l.Subject.CommonName))
	}
	return all
}

func leaf(c *tls.Certificate) (*x509.Certificate, error) {
	if c.Leaf != nil {
		return c.Leaf, nil
	}
	if len(c.Certificate) == 0 {
		return nil, errors.New("listen: a certificate is empty")
	}
	return x509.ParseCertificate(c.Certificate[0])
}

// choose is tls.Config.GetCertificate.
func (n *names) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	certs, ok := n.by[name]
	if !ok {
		if _, parent, cut := strings.Cut(name, "."); cut {
			certs, ok = n.by["*."+parent]
		}
	}
	if !ok {
		certs = n.standard
	}
	if len(certs) == 0 {
		return nil, errors.New("tls: no certificates configured")
	}
	abilities := *hello
	abilities.ServerName = "" // the name has been dealt with
	for _, c := range certs {
		if abilities.SupportsCertificate(c) == nil {
			return c, nil
		}
	}
	return certs[0], nil // the handshake fails and says why
}
