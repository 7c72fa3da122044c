package attack_test

import (
	"fmt"
	"strings"
)

// hops are attacks by fields that belong to one connection (RFC 9110, section
// 7.6.1).
func hops() []attack {
	var attacks []attack
	for _, name := range []string{
		"Host", "Authorization", "Cookie", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Transfer_Encoding", "X-Forwarded-For", "x-forwarded-proto", "X-Forwarded-Anything",
		"X_Forwarded_For", "X-Real-IP", "X-Request-Id", "Forwarded", "Via", "Cache-Control", "Range", "If-None-Match", "Origin", "Expect", "Date", "User-Agent", "Traceparent", "CDN-Loop",
	} {
		attacks = append(attacks, reject("nominates "+name, get+"Connection: close, "+name+"\r\n\r\n"+evil))
	}
	attacks = append(attacks, rejects(get+"Connection: ", "\r\n\r\n"+evil, nil,
		sample{"space inside", "close x"}, sample{"quoted", "\"close\""}, sample{"parameter", "close;x"}, sample{"slash", "a/b"}, sample{"NUL", "close\x00"}, sample{"control", "\x0bclose"}, sample{"folded", "close,\r\n Host"},
		sample{"good, then bad", "close\r\nConnection: Host"}, sample{"Host in a second field", "X-A\r\nX-A: 1\r\nConnection: X-B, Host"}, sample{"equals", "X=1"}, sample{"colon", "Host:"}, sample{"high byte", "\xe9"})...)
	gone := func(name, lines string, texts ...string) attack {
		return forward(name, get+lines+"\r\n", lacks(texts...))
	}
	return append(attacks,
		gone("nominated field", "Connection: X-Secret\r\nX-Secret: 1\r\n", "X-Secret", "\r\nConnection"),
		gone("nominated in another case", "Connection: x-SECRET\r\nX-Secret: 1\r\n", "secret"),
		gone("nominated behind it", "X-Secret: 1\r\nConnection: X-Secret\r\n", "secret"),
		gone("nominated twice over", "Connection: X-A, X-B\r\nX-A: 1\r\nX-B: 2\r\nX-A: 3\r\n", "X-A", "X-B"),
		gone("nominated by two fields", "Connection: X-A\r\nX-A: 1\r\nConnection: X-B\r\nX-B: 2\r\n", "X-A", "X-B"),
		gone("nominated among empty ones", "Connection: ,, X-A ,,\r\nX-A: 1\r\n", "X-A"),
		gone("nominated what is not there", "Connection: X-Nothing\r\n", "nothing"),
		gone("Connection nominates itself", "Connection: Connection\r\n", "connection:"),
		gone("Keep-Alive", "Keep-Alive: timeout=5\r\n", "keep-alive"),
		gone("Proxy-Connection", "Proxy-Connection: keep-alive\r\n", "proxy-connection"),
		gone("Proxy-Authorization", "Proxy-Authorization: Basic eA==\r\n", "proxy-auth"),
		gone("Proxy-Authenticate", "Proxy-Authenticate: Basic\r\n", "proxy-auth"),
		gone("TE trailers", "TE: trailers\r\nConnection: TE\r\n", "\r\nte:"),
		gone("TE gzip", "TE: gzip, trailers;q=0.5\r\n", "\r\nte:"),
		gone("TE chunked", "TE: chunked\r\n", "\r\nte:"),
		gone("Upgrade without Connection", "Upgrade: websocket\r\n", "upgrade"),
		gone("Connection upgrade without Upgrade", "Connection: Upgrade\r\n", "upgrade"),
		gone("Connection keep-alive", "Connection: keep-alive\r\n", "\r\nconnection"),
		gone("HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n", "http2-settings"),
		gone("keep-alive in other cases", "kEEP-aLIVE: 1\r\nPROXY-connection: x\r\n", "keep-alive", "proxy-connection"),
		denied("Max-Forwards of OPTIONS", "OPTIONS /public/x HTTP/1.1\r\nHost: edge.test\r\nMax-Forwards: 0\r\n\r\n", 200, 204),
		forward("Max-Forwards counts down", "OPTIONS /public/x HTTP/1.1\r\nHost: edge.test\r\nMax-Forwards: 3\r\n\r\n", has("Max-Forwards", "2")),
		forward("Max-Forwards of GET", get+"Max-Forwards: 0\r\n\r\n", line("GET /public/x HTTP/1.1")),
		denied("a loop", get+"Via: 1.1 sluice"+strings.Repeat(", 1.1 sluice", 20)+"\r\n\r\n", 400, 502, 508),
		denied("a loop by single fields", get+strings.Repeat("Via: 1.1 sluice\r\n", 20)+"\r\n", 400, 502, 508),
		forward("Via is kept and added to", get+"Via: 1.0 a, 1.1 b\r\n\r\n", has("Via", "1.0 a, 1.1 b|1.1 sluice")),
	)
}

// spoofs are attacks by fields that only the gateway may set.
func spoofs() []attack {
	var attacks []attack
	for _, s := range []sample{
		{"X-Forwarded-For", "6.6.6.6"}, {"x-forwarded-for", "6.6.6.6"}, {"X-FORWARDED-FOR", "6.6.6.6, 127.0.0.2"}, {"X-Forwarded-Proto", "6.6.6.6"}, {"X-Forwarded-Host", "6.6.6.6"}, {"X-Forwarded-Port", "6.6.6.6"},
		{"X-Forwarded-Prefix", "6.6.6.6"}, {"X-Forwarded-Server", "6.6.6.6"}, {"X-Forwarded-User", "6.6.6.6"}, {"X-Forwarded-Client-Cert", "6.6.6.6"}, {"X-Forwarded-Anything", "6.6.6.6"}, {"X-Forwarded-", "6.6.6.6"},
		{"X-Real-IP", "6.6.6.6"}, {"x-real-ip", "6.6.6.6"}, {"Forwarded", "for=6.6.6.6"}, {"forwarded", "for=\"[::6.6.6.6]\";host=x"}, {"X-Request-Id", "6.6.6.6"}, {"x-request-ID", "6.6.6.6"},
	} {
		attacks = append(attacks,
			forward(s.name, get+s.name+": "+s.text+"\r\n\r\n", lacks("6.6.6.6"), own),
			forward(s.name+" twice", get+s.name+": "+s.text+"\r\nX: 1\r\n"+s.name+": "+s.text+"\r\n\r\n", lacks("6.6.6.6"), own))
	}
	for _, name := range []string{"X_Forwarded_For", "X-Forwarded_For", "X_Forwarded-For", "x_forwarded_for", "X_Forwarded_Proto", "X_Forwarded_Host", "X_Forwarded_User", "X_Real_IP", "X-Real_IP", "X_Request_ID"} {
		attacks = append(attacks, reject(name, get+name+": 6.6.6.6\r\n\r\n"+evil), reject(name+" beside the real one", get+"X-Forwarded-For: 1.1.1.1\r\n"+name+": 6.6.6.6\r\n\r\n"))
	}
	return append(attacks,
		reject("space before colon", get+"X-Forwarded-For : 6.6.6.6\r\n\r\n"),
		reject("NUL in name", get+"X-Forwarded-For\x00: 6.6.6.6\r\n\r\n"),
		reject("behind a bare LF", get+"X: 1\nX-Forwarded-For: 6.6.6.6\r\n\r\n"),
		reject("behind a bare CR", get+"X: 1\rX-Forwarded-For: 6.6.6.6\r\n\r\n"),
		reject("in a fold", get+"X: 1\r\n X-Forwarded-For: 6.6.6.6\r\n\r\n"),
		cut("in a trailer", chunkedPost+"0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"),
		cut("announced as a trailer", post+"X-Real-IP: 6.6.6.6\r\nTrailer: X-Real-IP\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
		forward("hop-by-hop, announced as a trailer", post+"Connection: X-Secret\r\nX-Secret: 6.6.6.6\r\nTrailer: X-Secret\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", lacks("6.6.6.6"), tail("")),
		forward("all at once", get+"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: 6.6.6.6\r\nX-Forwarded-Proto: 6.6.6.6\r\n\r\n", lacks("6.6.6.6"), own),
		forward("a Host that breaks out of Forwarded", "GET /public/x HTTP/1.1\r\nHost: edge.test:80\r\n\r\n", raws("X-Forwarded-Host: edge.test:80"), func(r request) error {
			return has("Forwarded", "for="+r.get("X-Forwarded-For")+`;host="edge.test:80";proto=http`)(r)
		}),
	)
}

// own wants what the gateway says of the client, once each.
func own(r request) error {
	client := r.get("X-Forwarded-For")
	if !strings.HasPrefix(client, "127.") || strings.ContainsAny(client, ",|") {
		return fmt.Errorf("X-Forwarded-For: %q", client)
	}
	for name, want := range map[string]string{
		"X-Forwarded-Proto": "http", "X-Forwarded-Host": "edge.test", "Forwarded": "for=" + client + ";host=edge.test;proto=http",
	} {
		if err := has(name, want)(r); err != nil {
			return err
		}
	}
	if id := r.all("X-Request-Id"); len(id) != 1 || len(id[0]) < 16 {
		return fmt.Errorf("X-Request-Id: %q", id)
	}
	return nil
}
