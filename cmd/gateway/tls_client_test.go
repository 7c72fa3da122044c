package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// clientPair is a certificate of a client by the authority in dir.
func clientPair(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	ca, err := loadPair(dir+"/ca.pem", dir+"/ca-key.pem")
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	uri, err := url.Parse("spiffe://shop/alice")
	must(t, err)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "alice, O=root", Organization: []string{"Shop"}}, SerialNumber: serial(),
		DNSNames: []string{"alice.example"}, URIs: []*url.URL{uri}, EmailAddresses: []string{"alice@shop.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestClientCertificates has backends learn who the client is by its
// certificate, and by nothing that a client says.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	certify(t, dir)
	alice := clientPair(t, dir)
	// The backend folds names as CGI does, so that every spelling is seen.
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var got []string
		for name, values := range r.Header {
			if folded := strings.ReplaceAll(strings.ToLower(name), "_", "-"); strings.Contains(folded, "client-cert") {
				got = append(got, folded+"="+strings.Join(values, "|"))
			}
		}
		slices.Sort(got)
		w.Header()["X-Got"] = got
	}))
	defer origin.Close()
	own := []string{
		"client-cert=:" + base64.StdEncoding.EncodeToString(alice.Certificate[0]) + ":",
		"x-client-cert-san=DNS:alice.example, URI:spiffe://shop/alice, EMAIL:alice@shop.example",
		`x-client-cert-subject=CN=alice\2C O=root,O=Shop`,
	}
	forged := http.Header{"Client-Cert": {":AA==:"}, "Client-Cert-Chain": {":AA==:"}, "X-Client-Cert-Subject": {"CN=root"}, "X-Client-Cert-San": {"DNS:root"}}
	for _, trusted := range []string{"[]", `["127.0.0.0/8"]`} {
		r := run(t, listenTLS(dir, ", client_auth: {mode: request, ca_file: "+dir+"/ca.pem}")+`
admin: {address: ""}
shutdown: {grace: 0s}
trusted_proxies: `+trusted+`
backends: {o: {targets: ["`+origin.URL+`"]}}
routes: [{match: /*, backend: o}]
`)
		for _, h2 := range []bool{false, true} {
			for _, certified := range []bool{false, true} {
				cfg := &tls.Config{RootCAs: authorities(t, dir+"/ca.pem"), ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(8)}
				want := []string(nil)
				if trusted != "[]" {
					want = []string{"client-cert-chain=:AA==:", "client-cert=:AA==:", "x-client-cert-san=DNS:root", "x-client-cert-subject=CN=root"}
				}
				if certified {
					cfg.Certificates, want = []tls.Certificate{alice}, own
				}
				transport := &http.Transport{TLSClientConfig: cfg, Protocols: new(http.Protocols), DisableKeepAlives: true}
				transport.Protocols.SetHTTP1(!h2)
				transport.Protocols.SetHTTP2(h2)
				client := &http.Client{Transport: transport, Timeout: waitLimit}
				ask := func(header http.Header) *http.Response {
					t.Helper()
					req, err := http.NewRequest("GET", "https://"+r.address("127.0.0.1:0"), nil)
					must(t, err)
					req.Header = header.Clone()
					resp, err := client.Do(req)
					must(t, err)
					must(t, resp.Body.Close())
					if (resp.ProtoMajor == 2) != h2 {
						t.Fatalf("spoke %s", resp.Proto)
					}
					return resp
				}
				for range 2 { // the second time by a session that is resumed
					if got := ask(forged).Header["X-Got"]; !slices.Equal(got, want) {
						t.Errorf("trusted %s, h2 %t, certified %t: the backend got\n%s\nwant\n%s", trusted, h2, certified, strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
				}
				for _, name := range []string{"Client_Cert", "client_cert", "X_Client_Cert_Subject", "X-Client-Cert_San", "X_CLIENT-CERT", "Client-Cert_Chain"} {
					if resp := ask(http.Header{name: {"forged"}}); resp.StatusCode != 400 || resp.Header["X-Got"] != nil {
						t.Errorf("%s: %d %q", name, resp.StatusCode, resp.Header["X-Got"])
					}
				}
			}
		}
	}
}
