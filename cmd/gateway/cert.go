package main

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
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	serverLife    = 397 * 24 * time.Hour // browsers take no longer ones
)

// devNames are what a certificate for trying things out is for, in any case.
var devNames = []string{"localhost", "127.0.0.1", "::1"}

var dnsName = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)

// cert is `gateway cert`.
func (p *program) cert(args []string) error {
	fs := flags("cert")
	dir := fs.String("dev", "", "")
	names, err := parseAny(fs, args)
	if err != nil {
		return err
	}
	if *dir == "" {
		return usageError("cert needs -dev DIR")
	}
	for _, name := range names {
		if net.ParseIP(name) == nil && !dnsName.MatchString(name) {
			return usageError(fmt.Sprintf("cert: %q is neither a host name nor an address", name))
		}
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	at := func(name string) string { return filepath.Join(*dir, name) }
	ca, made, err := devAuthority(at("ca.pem"), at("ca-key.pem"))
	if err != nil {
		return err
	}
	names = append(devNames[:len(devNames):len(devNames)], names...)
	until, err := issue(ca, names, at("server.pem"), at("server-key.pem"))
	if err != nil {
		return err
	}
	verb := "kept"
	if made {
		verb = "wrote"
	}
	fmt.Fprintf(p.out, `%s %s and ca-key.pem: an authority for this machine only
wrote %s and server-key.pem: for %s, until %s

  listeners:
    - address: ":8443"
      tls: {certificates: [{cert_file: %[6]s, key_file: %[7]s}]}

  curl --cacert %[2]s https://localhost:8443/
`, verb, at("ca.pem"), at("server.pem"), strings.Join(names, ", "), until.Format(time.DateOnly), at("server.pem"), at("server-key.pem"))
	return nil
}

// devAuthority returns the authority in two files, which it makes where neither
// is there. It never overwrites one.
func devAuthority(certFile, keyFile string) (ca *tls.Certificate, made bool, err error) {
	for _, file := range []string{certFile, keyFile} {
		_, statErr := os.Stat(file)
		if !errors.Is(statErr, fs.ErrNotExist) {
			pair, err := loadPair(certFile, keyFile)
			if err == nil && !pair.Leaf.IsCA {
				err = fmt.Errorf("%s is no authority", certFile)
			}
			return pair, false, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, false, err
	}
	host, _ := os.Hostname() // only to tell authorities apart
	template := &x509.Certificate{
		Subject:      pkix.Name{CommonName: strings.TrimSpace("Sluice development CA " + host)},
		SerialNumber: serial(),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, false, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, false, err
	}
	if err := writeKey(keyFile, key, os.O_EXCL); err != nil {
		return nil, false, err
	}
	if err := writePEM(certFile, "CERTIFICATE", der, 0o644, os.O_EXCL); err != nil {
		return nil, false, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, true, nil
}

// issue writes a server's certificate for names, signed by ca, over one that was
// there.
func issue(ca *tls.Certificate, names []string, certFile, keyFile string) (until time.Time, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return until, err
	}
	template := &x509.Certificate{
		Subject:      pkix.Name{CommonName: names[0]},
		SerialNumber: serial(),
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(serverLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Leaf, key.Public(), ca.PrivateKey)
	if err != nil {
		return until, err
	}
	// A gateway that runs takes both when the second is there.
	if err := replaced(keyFile, func(next string) error { return writeKey(next, key, os.O_TRUNC) }); err != nil {
		return until, err
	}
	return template.NotAfter, replaced(certFile, func(next string) error {
		return writePEM(next, "CERTIFICATE", der, 0o644, os.O_TRUNC)
	})
}

// replaced has write make a file beside path, and puts it in its place.
func replaced(path string, write func(next string) error) error {
	next := path + ".next"
	if err := write(next); err != nil {
		return err
	}
	return os.Rename(next, path)
}

func serial() *big.Int {
	n, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // it never fails
	return n
}

func writeKey(path string, key *ecdsa.PrivateKey, mode int) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(path, "PRIVATE KEY", der, 0o600, mode)
}

func writePEM(path, kind string, der []byte, perm os.FileMode, mode int) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|mode, perm)
	if err != nil {
		return err
	}
	return errors.Join(pem.Encode(f, &pem.Block{Type: kind, Bytes: der}), f.Close())
}
