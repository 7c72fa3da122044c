package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sluice-edge/sluice/internal/config"
	"github.com/sluice-edge/sluice/internal/listen"
)

// A ListenerTLS is how a listener meets its clients with TLS.
type ListenerTLS struct {
	Certificates []CertificateFiles `yaml:"certificates" required:"true" doc:"chosen by the name that the client asks for; the first is for all other names; their files are watched"`
	ClientAuth   ClientAuth         `yaml:"client_auth" doc:"certificates of clients"`
	MinVersion   string             `yaml:"min_version" enum:"1.2|1.3" default:"1.2" doc:"the oldest TLS version that is spoken"`
}

// SetDefaults fills in what a new one starts from.
func (t *ListenerTLS) SetDefaults() { t.ClientAuth.Mode, t.MinVersion = "none", "1.2" }

// CertificateFiles are a certificate and its key.
type CertificateFiles struct {
	CertFile string `yaml:"cert_file" required:"true" doc:"PEM file of the certificate, then those between it and its authority"`
	KeyFile  string `yaml:"key_file" required:"true" doc:"PEM file of its key"`
}

// ClientAuth is what is asked of clients.
type ClientAuth struct {
	Mode   string `yaml:"mode" enum:"none|request|require" default:"none" doc:"whether clients are asked for a certificate, and served without one"`
	CAFile string `yaml:"ca_file" doc:"PEM file of the authorities that clients' certificates are verified by"`
}

// credentials are a listener's certificates, as they were read.
type credentials struct {
	tls      *listen.TLS
	sum      [sha256.Size]byte // of the files
	warnings []string
}

// A tlsFault is what is wrong with one key of a ListenerTLS.
type tlsFault struct {
	path string // below the ListenerTLS
	err  error
}

// credentials reads the files that t names.
func (t *ListenerTLS) credentials(now time.Time) (*credentials, []tlsFault) {
	// What changes while they are read is read again.
	c := &credentials{tls: &listen.TLS{MinVersion: tls.VersionTLS12}, sum: checksum(t.files())}
	var faults []tlsFault
	if t.MinVersion == "1.3" {
		c.tls.MinVersion = tls.VersionTLS13
	}
	for i, files := range t.Certificates {
		if files.CertFile == "" || files.KeyFile == "" {
			continue // it has been said
		}
		pair, bad := files.load()
		if len(bad) > 0 {
			for _, f := range bad {
				faults = append(faults, tlsFault{config.Join("certificates", i, f.path), f.err})
			}
			continue
		}
		if end := pair.Leaf.NotAfter; now.After(end) {
			c.warnings = append(c.warnings, fmt.Sprintf("the certificate in %s expired on %s", files.CertFile, end.UTC().Format(time.DateTime)))
		} else if begin := pair.Leaf.NotBefore; now.Before(begin) {
			c.warnings = append(c.warnings, fmt.Sprintf("the certificate in %s is not valid before %s", files.CertFile, begin.UTC().Format(time.DateTime)))
		}
		c.tls.Certificates = append(c.tls.Certificates, *pair)
	}
	if fault := c.clients(t.ClientAuth); fault != nil {
		faults = append(faults, *fault)
	}
	return c, faults
}

// clients sets what is asked of clients.
func (c *credentials) clients(auth ClientAuth) *tlsFault {
	const key = "client_auth.ca_file"
	switch {
	case auth.Mode == "none" && auth.CAFile != "":
		return &tlsFault{key, errors.New("nobody is asked for a certificate; client_auth.mode would be request or require")}
	case auth.Mode == "none":
		return nil
	case auth.CAFile == "":
		return &tlsFault{"client_auth", errors.New("ca_file is missing: certificates of clients have to be verified by somebody")}
	}
	data, err := os.ReadFile(auth.CAFile)
	if err != nil {
		return &tlsFault{key, cannotRead(auth.CAFile, err)}
	}
	c.tls.ClientCAs = x509.NewCertPool()
	if !c.tls.ClientCAs.AppendCertsFromPEM(data) {
		return &tlsFault{key, fmt.Errorf("%s holds no certificate in PEM form", auth.CAFile)}
	}
	c.tls.ClientAuth = tls.VerifyClientCertIfGiven
	if auth.Mode == "require" {
		c.tls.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return nil
}

// loadPair reads a certificate and its key.
func loadPair(certFile, keyFile string) (*tls.Certificate, error) {
	pair, faults := CertificateFiles{certFile, keyFile}.load()
	if len(faults) > 0 {
		return nil, faults[0].err
	}
	return pair, nil
}

// load reads a certificate and its key, or says what is wrong with which.
func (c CertificateFiles) load() (*tls.Certificate, []tlsFault) {
	var faults []tlsFault
	read := func(key, name string) []byte {
		data, err := os.ReadFile(name)
		if err != nil {
			faults = append(faults, tlsFault{key, cannotRead(name, err)})
		}
		return data
	}
	certPEM, keyPEM := read("cert_file", c.CertFile), read("key_file", c.KeyFile)
	if faults != nil {
		return nil, faults
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err == nil && pair.Leaf == nil {
		pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0])
	}
	if err != nil {
		return nil, []tlsFault{c.unusable(strings.TrimPrefix(err.Error(), "tls: "))}
	}
	return &pair, nil
}

// unusable says which of the files reason is about.
func (c CertificateFiles) unusable(reason string) tlsFault {
	switch {
	case strings.Contains(reason, "does not match"):
		return tlsFault{"key_file", fmt.Errorf("the key in %s is not that of the certificate in %s", c.KeyFile, c.CertFile)}
	case strings.Contains(reason, "private key") || strings.Contains(reason, "key input"):
		return tlsFault{"key_file", fmt.Errorf("%s holds no usable key: %s", c.KeyFile, reason)}
	}
	return tlsFault{"cert_file", fmt.Errorf("%s holds no usable certificate: %s", c.CertFile, reason)}
}

// files are all that t names.
func (t *ListenerTLS) files() (all []string) {
	if t == nil {
		return nil
	}
	for _, c := range t.Certificates {
		all = append(all, c.CertFile, c.KeyFile)
	}
	if t.ClientAuth.CAFile != "" {
		all = append(all, t.ClientAuth.CAFile)
	}
	return all
}

// checksum is of all that the files hold; one that cannot be read is one without
// content.
func checksum(files []string) [sha256.Size]byte {
	var all bytes.Buffer
	for _, name := range files {
		data, _ := os.ReadFile(name)
		sum := sha256.Sum256(data)
		all.Write(sum[:])
	}
	return sha256.Sum256(all.Bytes())
}

// checkTLS reads the certificates of listener i, whose settings l are.
func (s *setup) checkTLS(i int, l *Listener) {
	path := config.Join("listeners", i)
	if l.TLS == nil {
		s.credentials = append(s.credentials, nil)
		return
	}
	c, faults := l.TLS.credentials(time.Now())
	for _, f := range faults {
		s.doc.Fault(path+".tls."+f.path, f.err)
	}
	s.warnings = append(s.warnings, c.warnings...)
	s.credentials = append(s.credentials, c)
}
