package attack_test

// paths are attacks by what routes and backends may read differently. all.test
// forwards everything but /admin and what is below it.
func paths() []attack {
	at := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: all.test\r\n\r\n" }
	var attacks []attack
	for _, target := range []string{
		"/admin", "/admin/", "/admin/x", "/admin?x", "/admin/?x", "/admin?/../public", "/admin/x.css", "/admin/.", "/admin/./x", "/admin//x", "/admin/x/..", "/admin/../admin/x", "/admin/x/../../admin",
		// One letter encoded, or all.
		"/%61dmin", "/a%64min", "/ad%6Din", "/adm%69n", "/admi%6e", "/%61%64%6d%69%6e", "/%61%64%6D%69%6E/x",
		// Dot segments.
		"/./admin", "/x/../admin", "/x/./../admin", "/x/y/../../admin", "/%2e/admin", "/x/%2e%2e/admin", "/x/%2E%2E/admin", "/x/.%2e/admin", "/x/%2e./admin", "/x/../%61dmin", "/x/..//admin",
		"/../admin", "/%2e%2e/admin", "/../../../admin", "/x/../../admin", "/./../admin",
		// Slashes.
		"//admin", "///admin", "//admin/x", "/x//../admin", "//x/../admin", "/x//..//admin", "/.//admin", "//./admin",
		"/%2fadmin", "/%2Fadmin", "/x%2f..%2fadmin", "/x%2F../admin", "/x/..%2fadmin", "/x/..%2Fadmin", "/x/%2e%2e%2fadmin", "/..%2fadmin", "/admin%2fx", "/admin%2F", "/%2f%2fadmin", "/x%2f%2e%2e/admin",
		// Backslashes.
		"/\\admin", "\\admin", "/x\\..\\admin", "/x/..\\admin", "/x\\../admin", "/admin\\x", "/%5cadmin", "/%5Cadmin", "/x%5c..%5cadmin", "/x/..%5cadmin", "/x/%2e%2e%5cadmin", "/admin%5cx", "/x%5c%2e%2e%5cadmin",
		// Parameters.
		"/admin;x", "/admin;", "/admin;/x", "/admin;x=y/z", "/admin;jsessionid=1", "/;/admin", "/;x=y/admin", "/x/..;/admin", "/x/..;a=b/admin", "/x/.;/../admin", "/x;/../admin", "/x;y/../admin", "/x/;/../admin", "/x/%2e%2e;/admin",
		"/x/..%3b/admin", "/admin%3bx", "/%3b/admin", "/x/..;/..;/admin", "/;/;/admin", "/.;/admin", "/x/.;./admin/../../admin", "/admin;x.css", "/admin/;x.css",
		// Encoded twice and more.
		"/%2561dmin", "/%25%36%31dmin", "/x/%252e%252e/admin", "/x/%252e%252e%252fadmin", "/x/..%252fadmin", "/%252fadmin", "/admin%252fx", "/x/..%255cadmin", "/x/%25252e%25252e/admin", "/x/%252e./admin", "/x/.%252e/admin",
		"/admin%253bx", "/admin%2500", "/admin%253fx", "/x/%%32%65%%32%65/admin", "/admin%2523",
		// Encodings that are none, or no UTF-8.
		"/%u0061dmin", "/x/%u002e%u002e/admin", "/x/..%u2215admin", "/admin%", "/admin%2", "/admin%zz", "/%a/admin", "/admin%-1", "/%0xadmin",
		"/x/%c0%ae%c0%ae/admin", "/x/..%c0%afadmin", "/%c0%afadmin", "/x/..%c1%9cadmin", "/x/..%e0%80%afadmin", "/x/..%f0%80%80%afadmin", "/%c1%a1dmin", "/x/%e0%80%ae%e0%80%ae/admin", "/%f8%80%80%80%afadmin", "/%ff/../admin", "/%ed%a0%80/x", "/x/\xc0\xae\xc0\xae/admin", "/x/..\xc0\xafadmin", "/\xe1dmin",
		"/%25c0%25af/x", "/x/..%25c0%25afadmin",
		// Bytes at which somebody stops or cuts.
		"/admin%00", "/admin%00x", "/%00/admin", "/x%00/../admin", "/admin%00.css", "/admin%0a", "/admin%0d%0a", "/admin%0a.css", "/admin%09", "/admin%7f", "/admin%1b", "/admin%0b", "/%0aadmin", "/admin%c2%80", "/admin%c2%85",
		"/admin%3f", "/admin%3Fx", "/admin%23", "/admin%23x", "/x/%3f/../../admin", "/%3f/../admin", "/x%23/../../admin", "/admin%3f/../x",
		// Absolute form.
		"http://all.test/admin", "http://all.test//admin", "http://all.test/x/..;/admin", "http://all.test/%2561dmin", "http://all.test/x/../admin", "http://all.test/\\admin",
	} {
		attacks = append(attacks, denied(target, at(target)))
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY", "PROPFIND", "get", "FOO"} {
		attacks = append(attacks, denied("by "+method, method+" /admin/x HTTP/1.1\r\nHost: all.test\r\n\r\n", 403))
	}
	for _, host := range []string{"ALL.TEST", "all.test.", "all.test:80", "all.test:8443", "All.Test.:1"} {
		attacks = append(attacks, denied("by Host "+host, "GET /admin HTTP/1.1\r\nHost: "+host+"\r\n\r\n", 403))
	}
	attacks = append(attacks,
		denied("by HTTP/1.0", "GET /admin HTTP/1.0\r\nHost: all.test\r\n\r\n", 403),
		denied("by X-Original-URL", "GET /admin HTTP/1.1\r\nHost: all.test\r\nX-Original-URL: /public\r\nX-Rewrite-URL: /public\r\n\r\n", 403),
		denied("by X-HTTP-Method-Override", "POST /admin HTTP/1.1\r\nHost: all.test\r\nX-HTTP-Method-Override: GET\r\n\r\n", 403),
		denied("below a folder, above it", to("/public/../admin/x")),
		denied("below a folder, by parameters", to("/public/..;/admin/x")),
		denied("below a folder, encoded", to("/public/%2e%2e/admin/x")),
		denied("below a folder, encoded slash", to("/public/..%2fadmin/x")),
		denied("below a folder, backslash", to("/public/..%5cadmin/x")),
		denied("below a folder, twice encoded", to("/public/%252e%252e/admin/x")),
		denied("stripped, denied", to("/strip/admin/x")),
		denied("stripped, encoded", to("/strip/%61dmin/x")),
		denied("stripped, dots", to("/strip/x/../admin/x")),
		denied("stripped, slashes", to("/strip//admin/x")),
		denied("stripped, parameters", to("/strip/;/admin/x")),
		denied("stripped, dots and parameters", to("/strip/x/..;/admin/x")),
		denied("stripped, above the prefix", to("/strip/../admin/x")),
		denied("stripped, encoded slash", to("/strip%2fadmin/x")),
		denied("stripped, backslash", to("/strip/%5cadmin/x")),
		denied("stripped, twice encoded", to("/strip/%2561dmin/x")),
		denied("stripped, a prefix in the middle of a word", to("/stripadmin/x")),
	)
	good := func(target, want string) attack { return forward(target, at(target), line("GET "+want+" HTTP/1.1")) }
	for _, target := range []string{
		"/administrator", "/admins", "/xadmin", "/x/admin", "/x?/admin", "/Admin/x", "/a%2eb", "/%7Euser", "/..x", "/x..", "/...", "/x/...admin", "/x;a=b", "/x//y", "/x%20y", "/%E2%82%AC", "/x%25", "/x%2541", "/x'y", "/x%22y", "/x|y", "/x{y}", "/x,y", "/x=y&z", "/x:y@z", "/x+y", "/~/!$()*",
	} {
		attacks = append(attacks, good(target, target))
	}
	return append(attacks,
		good("/x/../y", "/y"), good("/x/./y", "/x/y"), good("/x/%2e%2e/y", "/y"), good("/admin/../y", "/y"), good("/x/y/..", "/x/"), good("/x/.", "/x/"), good("/x/../y?a=/../b", "/y?a=/../b"), good("/x/../y%20z", "/y%20z"), good("/x/../%41%25", "/A%25"),
		forward("/strip/x", to("/strip/x"), line("GET /x HTTP/1.1")),
		forward("/strip", to("/strip"), line("GET / HTTP/1.1")),
		forward("/strip/a%20b", to("/strip/a%20b"), line("GET /a%20b HTTP/1.1")),
		forward("/strip/http://x", to("/strip/a:b@c?x=y"), line("GET /a:b@c?x=y HTTP/1.1")),
	)
}
