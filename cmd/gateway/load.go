package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/sluice-edge/sluice/internal/config"
	"github.com/sluice-edge/sluice/proxy"
)

//go:embed default.yaml
var defaultYAML []byte

// echoVariable is how the embedded default learns where the echo service is.
const echoVariable = "SLUICE_ECHO"

const minToken = 16 // bytes of an admin token

// A source is the text of a configuration.
type source struct {
	name string
	data []byte
}

// readSource reads a configuration file.
func readSource(path string) (source, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return source{}, cannotRead(path, err)
	}
	return source{path, data}, nil
}

// A setup is one version of the configuration, understood and built. Nothing
// of it runs yet.
type setup struct {
	file  *File
	doc   *config.Document
	gen   *proxy.Generation
	redis *redisLink // nil: none
	token string     // of the admin listener
	shown any        // the file without its secrets

	credentials []*credentials // of the listeners, nil without TLS
	warnings    []string       // about what is served all the same
}

// build makes everything that src describes and starts nothing. The error holds
// every fault of src. running is the link to Redis that is in use, nil for none.
// Whoever does not swap the setup in drops it.
func build(px *proxy.Proxy, src source, env func(string) (string, bool), number uint64, running *redisLink) (*setup, error) {
	doc, err := config.Parse(src.name, src.data, env)
	if err != nil {
		return nil, err
	}
	s := &setup{file: defaults(), doc: doc}
	doc.Decode(s.file)
	s.checkListeners()
	s.checkAdmin()
	s.redis = s.linkRedis(running)
	gen, err := px.Build(s.spec(number))
	for _, fault := range specFaults(err) {
		doc.Fault(fault.Path, fault.Err)
	}
	if err := doc.Err(); err != nil {
		if gen != nil {
			gen.Close()
		}
		s.release(running)
		return nil, err
	}
	s.gen, s.shown = gen, redacted(doc)
	return s, nil
}

// drop lets go of a setup that is not served; running is the link to Redis
// that is in use all the same.
func (s *setup) drop(running *redisLink) {
	s.gen.Close()
	s.release(running)
}

// spec is what the proxy is told of the file.
func (s *setup) spec(number uint64) proxy.Spec {
	f := s.file
	spec := proxy.Spec{
		Routes:       f.Routes,
		Backends:     make(map[string]proxy.BackendSpec, len(f.Backends)),
		Paths:        f.Paths,
		MaxBodyBytes: f.Server.MaxBodyBytes,
		Number:       number,
		AccessLog:    f.AccessLog,
	}
	if s.redis != nil {
		spec.Redis, spec.RedisTimeout = s.redis.UniversalClient, s.file.Redis.Timeout
	}
	for i, text := range f.TrustedProxies {
		prefix, err := parsePrefix(text)
		if err != nil {
			s.doc.Fault(config.Join("trusted_proxies", i), err)
			continue
		}
		spec.TrustedProxies = append(spec.TrustedProxies, prefix)
	}
	for name, b := range f.Backends {
		spec.Backends[name] = proxy.BackendSpec{Kind: b.Kind, Decode: func(into any) error {
			if b.Raw.Decode(into) != nil {
				return proxy.ErrReported
			}
			return nil
		}}
	}
	return spec
}

// specFaults takes apart what Build returns.
func specFaults(err error) []*proxy.SpecError {
	if err == nil || err == proxy.ErrReported {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*proxy.SpecError
		for _, one := range many.Unwrap() {
			out = append(out, specFaults(one)...)
		}
		return out
	}
	var fault *proxy.SpecError
	if !errors.As(err, &fault) {
		fault = &proxy.SpecError{Err: err}
	}
	if errors.Is(fault.Err, proxy.ErrReported) {
		return nil
	}
	return []*proxy.SpecError{fault}
}

// checkListeners holds addresses to what can be listened on.
func (s *setup) checkListeners() {
	if len(s.file.Listeners) == 0 {
		s.doc.Fault("listeners", errors.New("without a listener nobody can connect; leave the key out for :8080"))
	}
	seen := map[string]int{}
	for i := range s.file.Listeners {
		l := &s.file.Listeners[i]
		s.checkTLS(i, l)
		s.checkProtocols(i, l)
		path := config.Join("listeners", i, "address")
		if err := checkAddress(l.Address); err != nil {
			s.doc.Fault(path, err)
		}
		if first, ok := seen[l.Address]; ok {
			s.doc.Fault(path, fmt.Errorf("listeners[%d] has the address %s already", first, l.Address))
			continue
		}
		seen[l.Address] = i
	}
}

// checkProtocols fills in what is spoken where the file does not say, and holds
// it to whether there is TLS.
func (s *setup) checkProtocols(i int, l *Listener) {
	path := config.Join("listeners", i, "protocols")
	if !s.doc.Has(path) {
		l.Protocols = []string{"http1", "h2c"}
		if l.TLS != nil {
			l.Protocols = []string{"http1", "h2"}
		}
	}
	if l.TLS != nil && l.RedirectHTTPS {
		s.doc.Fault(config.Join("listeners", i, "redirect_https"), errors.New("who is here has come with https already"))
	}
	if l.TLS == nil && l.HSTS > 0 {
		s.doc.Fault(config.Join("listeners", i, "hsts"), errors.New("hsts is for listeners with tls; clients take no notice without"))
	}
	if len(l.Protocols) == 0 {
		s.doc.Fault(path, errors.New("a listener needs a protocol; leave the key out for HTTP/1.1 and HTTP/2"))
	}
	for j, name := range l.Protocols {
		switch {
		case name == "h2" && l.TLS == nil:
			s.doc.Fault(config.Join(path, j), errors.New("h2 needs tls; without it HTTP/2 is h2c"))
		case name == "h2c" && l.TLS != nil:
			s.doc.Fault(config.Join(path, j), errors.New("h2c is HTTP/2 without TLS; with it, h2"))
		}
	}
}

// checkAdmin holds the admin listener to a token wherever others reach it, and
// reads the token.
func (s *setup) checkAdmin() {
	a := s.file.Admin
	if a.Address == "" {
		return
	}
	if err := checkAddress(a.Address); err != nil {
		s.doc.Fault("admin.address", err)
		return
	}
	for i, l := range s.file.Listeners {
		if l.Address == a.Address && !strings.HasSuffix(a.Address, ":0") {
			s.doc.Fault("admin.address", fmt.Errorf("listeners[%d] has the address %s already", i, l.Address))
		}
	}
	if a.TokenFile == "" {
		if !isLoopback(a.Address) {
			s.doc.Fault("admin.address", fmt.Errorf("%s is reachable from elsewhere: set admin.token_file, or listen on 127.0.0.1", a.Address))
		}
		return
	}
	token, err := readToken(a.TokenFile)
	if err != nil {
		s.doc.Fault("admin.token_file", err)
	}
	s.token = token
}

func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", cannotRead(path, err)
	}
	token := string(bytes.TrimSpace(data))
	if len(token) < minToken {
		return "", fmt.Errorf("%s holds %d bytes; a token has at least %d", path, len(token), minToken)
	}
	return token, nil
}

// checkAddress reports what is wrong with a host:port to listen on.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("%q is not host:port", address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return fmt.Errorf("%q has no port from 0 to 65535", address)
	}
	return nil
}

func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// parsePrefix reads an address or a CIDR range.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf("%q is neither an address nor a range such as 10.0.0.0/8", text)
	}
	if prefix != prefix.Masked() {
		return prefix, fmt.Errorf("%s has bits beyond its length; the range is %s", prefix, prefix.Masked())
	}
	return prefix, nil
}

// cannotRead says why path cannot be read, and its name once.
func cannotRead(path string, err error) error {
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("cannot read %s: %w", path, err)
}
