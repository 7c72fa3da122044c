package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"strings"
	"testing"

	"github.com/sluice-edge/sluice/routing"
)

// TestDistinguishedName has names written by the rules of RFC 4514, so that no
// value can pass for another part, or for another field.
func TestDistinguishedName(t *testing.T) {
	part := func(oid asn1.ObjectIdentifier, value any) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}}
	}
	cn, o, ou := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.ObjectIdentifier{2, 5, 4, 11}
	dc, mail := asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	for want, name := range map[string]pkix.RDNSequence{
		"":                                 {},
		"CN=alice,O=Shop Inc.":             {part(o, "Shop Inc."), part(cn, "alice")},
		"CN=x,DC=example,DC=net":           {part(dc, "net"), part(dc, "example"), part(cn, "x")},
		"CN=a+OU=b":                        {{{Type: cn, Value: "a"}, {Type: ou, Value: "b"}}},
		`CN=eve\2CO=admins`:                {part(cn, "eve,O=admins")},
		`CN=\0D\0AX-Admin: 1\0D`:           {part(cn, "\r\nX-Admin: 1\r")},
		`CN=\23a\22\2B\3B\3C\3E\5C`:        {part(cn, `#a"+;<>\`)},
		`CN=\20\20b\20`:                    {part(cn, "  b ")},
		`CN=J\C3\BCrgen\00`:                {part(cn, "J\u00fcrgen\x00")},
		`CN=`:                              {part(cn, "")},
		"1.2.840.113549.1.9.1=#0c0361406d": {part(mail, "a@m")},
		"CN=#020105":                       {part(cn, 5)},
	} {
		der, err := asn1.Marshal(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := distinguishedName(der); got != want {
			t.Errorf("%v is %q, want %q", name, got, want)
		}
	}
}

func TestAlternativeNames(t *testing.T) {
	uri, err := url.Parse("spiffe://shop/cart,v2")
	if err != nil {
		t.Fatal(err)
	}
	for want, cert := range map[string]*x509.Certificate{
		"": {},
		`DNS:a.example, DNS:b\2C\20DNS:root, URI:spiffe://shop/cart\2Cv2, EMAIL:a\0D\0Ab@c, IP:192.0.2.1, IP:2001:db8::1`: {
			DNSNames: []string{"a.example", "b, DNS:root"}, URIs: []*url.URL{uri}, EmailAddresses: []string{"a\r\nb@c"},
			IPAddresses: []net.IP{net.ParseIP("192.0.2.1"), net.ParseIP("2001:db8::1")},
		},
	} {
		if got := alternativeNames(cert); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestClientCertOf has only a verified certificate count, and described once.
func TestClientCertOf(t *testing.T) {
	var known clientCerts
	cert := &x509.Certificate{Raw: []byte("any der"), RawSubject: []byte{0x30, 0}}
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	if got := known.of(state); got != nil {
		t.Errorf("a certificate that nobody verified is %v", got)
	}
	state.VerifiedChains = [][]*x509.Certificate{{cert}}
	first := known.of(state)
	if first == nil || first.whole != ":YW55IGRlcg==:" {
		t.Fatalf("a verified certificate is %+v", first)
	}
	if n := testing.AllocsPerRun(100, func() { known.of(state) }); n != 0 {
		t.Errorf("the next request of the connection allocates %v times", n)
	}
	other := &x509.Certificate{Raw: []byte("other der"), RawSubject: []byte{0x30, 0}} // in the same place
	got := known.of(&tls.ConnectionState{PeerCertificates: []*x509.Certificate{other}, VerifiedChains: [][]*x509.Certificate{{other}}})
	if got.cert != other || got.whole == first.whole {
		t.Errorf("another certificate is %+v", got)
	}
	x := exchangeOf("10.0.0.9", "10.0.0.0/8", "Host: a", "Client-Cert: :forged:", "X-Client-Cert-Subject: CN=root", "X-Client-Cert-San: DNS:root")
	x.Request.cert = first
	if got := lines(x.upstreamFields("a")); strings.Contains(got, "forged") || strings.Contains(got, "root") || !strings.HasSuffix(got, "\nClient-Cert: :YW55IGRlcg==:\nX-Client-Cert-Subject: \n") {
		t.Errorf("beside a certificate of its own a trusted peer's word counts:\n%s", got)
	}
}

// What a request hashes to, or is limited by, may be who its certificate says.
func TestKeysOfClientCert(t *testing.T) {
	var key routing.Key
	for _, part := range []string{"route", "tls:subject", "tls:san"} {
		var one routing.Key
		if err := one.UnmarshalText([]byte(part)); err != nil {
			t.Fatal(err)
		}
		key = append(key, one...)
	}
	of := func(cert *clientCert) (string, bool) {
		x := &Exchange{gen: &Generation{routes: []*route{{name: "all"}}}}
		x.Request.cert = cert
		if err := x.take(routing.Result{Outcome: routing.Found}); err != nil {
			t.Fatal(err)
		}
		b, complete := key.Append(nil, &x.probe)
		return string(b), complete
	}
	got, complete := of(&clientCert{subject: "CN=jo", names: "DNS:a, DNS:b"})
	if !complete || got != "\x04all\x06CN=jo\x06DNS:a" {
		t.Errorf("%q, complete %t", got, complete)
	}
	if _, complete := of(nil); complete {
		t.Error("without a certificate the key is complete")
	}
}
