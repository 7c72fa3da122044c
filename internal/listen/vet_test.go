package listen

import (
	"net/http"
	"strings"
	"testing"
)

func TestVet(t *testing.T) {
	request := func(change func(*http.Request)) *http.Request {
		r := &http.Request{Method: "GET", RequestURI: "/a?b=c", Host: "example.com:8443", Header: http.Header{"Accept": {"*/*"}}, Trailer: http.Header{}}
		change(r)
		return r
	}
	field := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[name] = values }
	}
	for name, test := range map[string]struct {
		change func(*http.Request)
		want   *Violation
	}{
		"plain":                      {func(*http.Request) {}, nil},
		"any token is a method":      {func(r *http.Request) { r.Method = "BREW" }, nil},
		"a method with a space":      {func(r *http.Request) { r.Method = "GET /x" }, errMethod},
		"no method":                  {func(r *http.Request) { r.Method = "" }, errMethod},
		"a long method":              {func(r *http.Request) { r.Method = strings.Repeat("A", 33) }, errMethod},
		"CONNECT":                    {func(r *http.Request) { r.Method = "CONNECT" }, errConnect},
		"TRACE":                      {func(r *http.Request) { r.Method = "TRACE" }, errTrace},
		"a path with CR LF":          {func(r *http.Request) { r.RequestURI = "/ HTTP/1.1\r\nX: y" }, errTarget},
		"a path with a space":        {func(r *http.Request) { r.RequestURI = "/a b" }, errTarget},
		"a path with a high byte":    {func(r *http.Request) { r.RequestURI = "/\xc3\xa9" }, errTarget},
		"a fragment":                 {func(r *http.Request) { r.RequestURI = "/a#b" }, errTarget},
		"no path":                    {func(r *http.Request) { r.RequestURI = "" }, errTarget},
		"a path without a slash":     {func(r *http.Request) { r.RequestURI = "a" }, errTarget},
		"an absolute target":         {func(r *http.Request) { r.RequestURI = "http://other/" }, errTarget},
		"an asterisk with GET":       {func(r *http.Request) { r.RequestURI = "*" }, errTarget},
		"an asterisk with OPTIONS":   {func(r *http.Request) { r.RequestURI, r.Method = "*", "OPTIONS" }, nil},
		"a long path":                {func(r *http.Request) { r.RequestURI = "/" + strings.Repeat("a", maxTarget) }, errTargetLong},
		"no authority":               {func(r *http.Request) { r.Host = "" }, errHost},
		"an authority with user":     {func(r *http.Request) { r.Host = "a@b" }, errHost},
		"an authority with a slash":  {func(r *http.Request) { r.Host = "a/b" }, errHost},
		"a port too high":            {func(r *http.Request) { r.Host = "a:99999" }, errHost},
		"an IPv6 authority":          {func(r *http.Request) { r.Host = "[::1]:80" }, nil},
		"a name with a space":        {field("A B", "c"), errFieldName},
		"a name with a colon":        {field("A:b", "c"), errFieldName},
		"an empty name":              {field("", "c"), errFieldName},
		"an alias":                   {field("Content_length", "3"), errFieldAlias},
		"an alias of a certificate":  {field("Client_cert", "x"), errFieldAlias},
		"an alias of its subject":    {field("X-Client_cert-Subject", "x"), errFieldAlias},
		"an underscore of no moment": {field("My_field", "3"), nil},
		"CR in a value":              {field("X", "a\rb"), errFieldValue},
		"LF in a value":              {field("X", "a\nb"), errFieldValue},
		"NUL in a value":             {field("X", "a\x00b"), errFieldValue},
		"a high byte in a value":     {field("X", "\xff"), errFieldValue},
		"space before a value":       {field("X", " a"), errFieldValue},
		"an empty value":             {field("X", ""), nil},
		"a long value":               {field("X", strings.Repeat("a", maxField+1)), errHeadLarge},
		"Connection":                 {field("Connection", "x"), errHop},
		"Transfer-Encoding":          {field("Transfer-Encoding", "chunked"), errHop},
		"Upgrade":                    {field("Upgrade", "websocket"), errHop},
		"Keep-Alive":                 {field("Keep-Alive", "x"), errHop},
		"Proxy-Connection":           {field("Proxy-Connection", "x"), errHop},
		"TE: trailers":               {field("Te", "trailers"), nil},
		"TE: gzip":                   {field("Te", "gzip"), errHop},
		"a second Host":              {field("Host", "other"), errHostCount},
		"a length":                   {field("Content-Length", "0"), nil},
		"a signed length":            {field("Content-Length", "+1"), errLength},
		"a padded length":            {field("Content-Length", "01"), errLength},
		"two lengths":                {field("Content-Length", "1", "1"), errLengthTwice},
		"an unknown expectation":     {field("Expect", "tea"), errExpect},
		"too many fields":            {field("X", make([]string, maxFields)...), errFieldCount},
		"a trailer":                  {func(r *http.Request) { r.Trailer["X-Sum"] = nil }, nil},
		"a framing trailer":          {func(r *http.Request) { r.Trailer["Content-Length"] = nil }, errTrailerField},
		"an authorizing trailer":     {func(r *http.Request) { r.Trailer["Authorization"] = nil }, errTrailerField},
	} {
		if got := vet(request(test.change)); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
