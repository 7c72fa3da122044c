package listen

import (
	"strings"
	"testing"
)

func TestVet(t *testing.T) {
	field := func(name string, values ...string) func(*Stream) {
		return func(st *Stream) {
			for _, value := range values {
				st.fields = append(st.fields, h2Field{name, value})
			}
		}
	}
	authority := func(s string) func(*Stream) { return func(st *Stream) { st.authority = s } }
	target := func(s string) func(*Stream) { return func(st *Stream) { st.target = s } }
	method := func(s string) func(*Stream) { return func(st *Stream) { st.method = s } }
	for name, test := range map[string]struct {
		change func(*Stream)
		want   *Violation
	}{
		"plain":                      {func(*Stream) {}, nil},
		"any token is a method":      {method("BREW"), nil},
		"a method with a space":      {method("GET /x"), errMethod},
		"no method":                  {method(""), errMethod},
		"a long method":              {method(strings.Repeat("A", 33)), errMethod},
		"CONNECT":                    {method("CONNECT"), errConnect},
		"TRACE":                      {method("TRACE"), errTrace},
		"Trace":                      {method("Trace"), errTrace},
		"a path with CR LF":          {target("/ HTTP/1.1\r\nX: y"), errTarget},
		"a path with a space":        {target("/a b"), errTarget},
		"a path with a high byte":    {target("/\xc3\xa9"), errTarget},
		"a fragment":                 {target("/a#b"), errTarget},
		"a fragment of a long path":  {target("/aaaaaaaaaaaaaaaaa#bbbbbbbbbbbbb"), errTarget},
		"no path":                    {target(""), errTarget},
		"a path without a slash":     {target("a"), errTarget},
		"an absolute target":         {target("http://other/"), errTarget},
		"an asterisk with GET":       {target("*"), errTarget},
		"an asterisk with OPTIONS":   {func(st *Stream) { st.target, st.method = "*", "OPTIONS" }, nil},
		"a long path":                {target("/" + strings.Repeat("a", maxTarget)), errTargetLong},
		"no authority":               {authority(""), errHost},
		"an authority with user":     {authority("a@b"), errHost},
		"an authority with a slash":  {authority("a/b"), errHost},
		"a port too high":            {authority("a:99999"), errHost},
		"an IPv6 authority":          {authority("[::1]:80"), nil},
		"a name with a space":        {field("a b", "c"), errFieldName},
		"a name with a colon":        {field("a:b", "c"), errFieldName},
		"an empty name":              {field("", "c"), errFieldName},
		"an alias":                   {field("content_length", "3"), errFieldAlias},
		"an alias of a certificate":  {field("client_cert", "x"), errFieldAlias},
		"an alias of its subject":    {field("x-client_cert-subject", "x"), errFieldAlias},
		"an underscore of no moment": {field("my_field", "3"), nil},
		"CR in a value":              {field("x", "a\rb"), errFieldValue},
		"LF in a value":              {field("x", "a\nb"), errFieldValue},
		"LF in a long value":         {field("x", "aaaaaaaaaaaaaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbb"), errFieldValue},
		"NUL in a value":             {field("x", "a\x00b"), errFieldValue},
		"a high byte in a value":     {field("x", "\xff"), errFieldValue},
		"space before a value":       {field("x", " a"), errFieldValue},
		"a tab behind a value":       {field("x", "a\t"), errFieldValue},
		"an empty value":             {field("x", ""), nil},
		"a long value":               {field("x", strings.Repeat("a", maxField+1)), errHeadLarge},
		"Connection":                 {field("connection", "x"), errHop},
		"Transfer-Encoding":          {field("transfer-encoding", "chunked"), errHop},
		"Upgrade":                    {field("upgrade", "websocket"), errHop},
		"Keep-Alive":                 {field("keep-alive", "x"), errHop},
		"Proxy-Connection":           {field("proxy-connection", "x"), errHop},
		"TE: trailers":               {field("te", "trailers"), nil},
		"TE: trailers twice":         {field("te", "trailers", "trailers"), errHop},
		"TE: gzip":                   {field("te", "gzip"), errHop},
		"another Host":               {field("host", "other"), errHostCount},
		"the same Host":              {field("host", "example.com:8443"), nil},
		"the same Host twice":        {field("host", "example.com:8443", "example.com:8443"), errHostCount},
		"Host instead": {func(st *Stream) {
			st.authority = ""
			field("host", "a.example")(st)
		}, nil},
		"a bad Host instead": {func(st *Stream) {
			st.authority = ""
			field("host", "a@b")(st)
		}, errHost},
		"an empty Host and another": {func(st *Stream) {
			st.authority = ""
			field("host", "", "b")(st)
		}, errHostCount},
		"a length":               {field("content-length", "0"), nil},
		"a signed length":        {field("content-length", "+1"), errLength},
		"a padded length":        {field("content-length", "01"), errLength},
		"two lengths":            {field("content-length", "1", "1"), errLengthTwice},
		"an expectation":         {field("expect", "100-Continue"), nil},
		"an unknown expectation": {field("expect", "tea"), errExpect},
		"two expectations":       {field("expect", "100-continue", "100-continue"), errExpect},
		"too many fields":        {field("x", make([]string, maxFields)...), errFieldCount},
		"too large a head":       {func(st *Stream) { *st = Stream{large: true} }, errHeadLarge},
	} {
		st := &Stream{method: "GET", target: "/a?b=c", authority: "example.com:8443", fields: []h2Field{{"accept", "*/*"}}}
		test.change(st)
		if got := vet(st); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
		for _, f := range st.fields {
			if test.want == nil && f.Name == "host" {
				t.Errorf("%s: Host is still there", name)
			}
		}
	}
}

func TestTrailerFields(t *testing.T) {
	for name, want := range map[string]*Violation{
		"x-sum": nil, "content-length": errTrailerField, "authorization": errTrailerField, "te": errTrailerField,
	} {
		st := &Stream{}
		st.trailer = []h2Field{{name, "v"}}
		if err := st.bodyEnds(); st.fault != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	st := &Stream{}
	for range maxTrailerField + 1 {
		st.trailer = append(st.trailer, h2Field{"x", "y"})
	}
	if err := st.bodyEnds(); st.fault != errTrailerLarge {
		t.Error(err)
	}
}
