package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"sync/atomic"
)

// A clientCert is what backends are told of a client's certificate.
type clientCert struct {
	cert *x509.Certificate
	// whole is the certificate as Client-Cert has it (RFC 9440, section 2.1).
	whole string
	// subject is its name (RFC 4514), ASCII only; names its alternative names,
	// empty where it has none.
	subject, names string
}

// clientCertsKept bounds how many certificates are kept described.
const clientCertsKept = 256

// clientCerts remembers what was last said of certificates: a client makes many
// requests with one. Each certificate has one place, which the last comer has.
type clientCerts [clientCertsKept]atomic.Pointer[clientCert]

// of describes the client's certificate; nil where none was verified.
func (c *clientCerts) of(state *tls.ConnectionState) *clientCert {
	if len(state.VerifiedChains) == 0 || len(state.PeerCertificates) == 0 {
		return nil
	}
	cert := state.PeerCertificates[0]
	n := len(cert.Raw)
	if n < 2 {
		return nil // crypto/tls parsed it, so there is more
	}
	// It ends in its signature, of which every bit is as good as any other.
	place := &c[binary.BigEndian.Uint16(cert.Raw[n-2:])%clientCertsKept]
	if known := place.Load(); known != nil && known.cert == cert {
		return known
	}
	made := &clientCert{
		cert: cert, whole: ":" + base64.StdEncoding.EncodeToString(cert.Raw) + ":",
		subject: distinguishedName(cert.RawSubject), names: alternativeNames(cert),
	}
	place.Store(made)
	return made
}

// appendTo appends the fields that say who the client is.
func (c *clientCert) appendTo(h *Header) {
	h.Add("Client-Cert", c.whole)
	h.Add("X-Client-Cert-Subject", c.subject)
	if c.names != "" {
		h.Add("X-Client-Cert-San", c.names)
	}
}

// alternativeNames is a list such as `DNS:a, URI:b, EMAIL:c, IP:d`. In a name a
// comma is \2C, and so with all that is not visible ASCII.
func alternativeNames(cert *x509.Certificate) string {
	var all []string
	add := func(kind, name string) { all = append(all, kind+escapeName(name, `,\`+" ")) }
	for _, name := range cert.DNSNames {
		add("DNS:", name)
	}
	for _, uri := range cert.URIs {
		add("URI:", uri.String())
	}
	for _, name := range cert.EmailAddresses {
		add("EMAIL:", name)
	}
	for _, ip := range cert.IPAddresses {
		add("IP:", ip.String())
	}
	return strings.Join(all, ", ")
}

// A nameAttribute is one part of a name (RFC 5280, section 4.1.2.4).
type nameAttribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type nameSET []nameAttribute // by its last letters asn1 knows a SET

// attributeNames are those of RFC 4514, section 3.
var attributeNames = map[string]string{
	"2.5.4.3": "CN", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU",
	"2.5.4.6": "C", "2.5.4.9": "STREET",
	"0.9.2342.19200300.100.1.25": "DC", "0.9.2342.19200300.100.1.1": "UID",
}

// distinguishedName is a name in DER as RFC 4514 writes it, from the last part to
// the first. All that is not ASCII is escaped: it goes into a field.
func distinguishedName(der []byte) string {
	var name []nameSET
	if rest, err := asn1.Unmarshal(der, &name); err != nil || len(rest) > 0 {
		return "" // x509 has read it, so it can be read
	}
	var b strings.Builder
	for i := len(name) - 1; i >= 0; i-- {
		for j, attribute := range name[i] {
			switch {
			case j > 0:
				b.WriteByte('+')
			case i < len(name)-1:
				b.WriteByte(',')
			}
			attribute.writeTo(&b)
		}
	}
	return b.String()
}

// writeTo writes a as type=value (RFC 4514, sections 2.3 and 2.4).
func (a *nameAttribute) writeTo(b *strings.Builder) {
	kind := a.Type.String()
	if short := attributeNames[kind]; short != "" {
		var value any
		if _, err := asn1.Unmarshal(a.Value.FullBytes, &value); err == nil {
			if text, ok := value.(string); ok {
				b.WriteString(short + "=" + escapeValue(text))
				return
			}
		}
		kind = short
	}
	b.WriteString(kind + "=#" + hex.EncodeToString(a.Value.FullBytes))
}

// escapeValue is escapeName for a value of RFC 4514, which may have spaces
// inside.
func escapeValue(s string) string {
	inner := strings.Trim(s, " ")
	if inner == "" {
		return strings.Repeat(`\20`, len(s))
	}
	first := strings.Index(s, inner)
	last := len(s) - first - len(inner)
	escaped := escapeName(inner, `"+,;<>\`)
	if first == 0 && inner[0] == '#' {
		escaped = `\23` + escaped[1:]
	}
	return strings.Repeat(`\20`, first) + escaped + strings.Repeat(`\20`, last)
}

// escapeName writes every byte that is special or no printable ASCII as a
// backslash and two hex digits.
func escapeName(s, special string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte(special, c) >= 0 {
			b.WriteByte('\\')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
