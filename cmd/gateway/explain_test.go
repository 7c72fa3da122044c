package main

import "testing"

const shop = `
backends:
  orders: {targets: ["http://127.0.0.1:9001"], timeouts: {request: 90s}}
  shadow: {targets: ["http://127.0.0.1:9002"]}
  sorry: {kind: respond, status: 503, headers: {Retry-After: "60"}, body: "sorry\n"}
  www: {kind: redirect, to: "https://www.example.com{uri}"}
routes:
  - name: orders
    match: {hosts: [api.example.com], path: /api/orders/*, methods: [GET, POST]}
    backend: orders
    timeout: 30s
    max_body_bytes: 1MiB
    mirror: {backend: shadow}
    rewrite: {strip_prefix: /api}
    request_headers: {set: {X-Gateway: sluice}}
  - {name: api, match: /api/*, backend: sorry}
  - {name: www, match: {hosts: [example.com]}, backend: www}
  - {name: post, match: {path: /form, methods: [POST]}, backend: sorry}
  - {name: split, match: /split, split: [{backend: orders, weight: 1}, {backend: shadow, weight: 1}, {backend: sorry}]}
`

func TestExplain(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, ".", "gw.yaml", shop)
	f := func(want string, args ...string) {
		t.Helper()
		expect(t, append([]string{"explain", "-config", "gw.yaml"}, args...), exitOK, want, "")
	}
	f(`
request   GET http://api.example.com/api/./orders/7?v=2 from 203.0.113.9
outcome   forwarded to http://127.0.0.1:9001
path      /api/orders/7
route     orders
limits    body 1MiB, timeout 30s
mirror    shadow
backend   orders (http)
balance   round_robin, 1 of 1 targets
target    http://127.0.0.1:9001
sends     GET /orders/7?v=2
          Host: api.example.com
          X-Token: a b
          Accept: */*
          X-Forwarded-For: 203.0.113.9
          X-Forwarded-Proto: http
          X-Forwarded-Host: api.example.com
          Forwarded: for=203.0.113.9;host=api.example.com;proto=http
          Via: 1.1 sluice
          X-Request-Id: ID
          X-Gateway: sluice
timeouts  connect 1s, response_header 15s, idle 1m, request 1m30s

routes, in order of precedence
> orders  takes the request
  www     host: api.example.com is not example.com
  post    path: /api/orders/7 is not /form
  split   path: /api/orders/7 is not /split
  api     precedence: route orders comes first
`, "http://api.example.com/api/./orders/7?v=2", "-ip", "203.0.113.9", "-H", "X-Token: a b", "-H", "Accept: */*")
	f(`
request  DELETE http://api.example.com/api/orders/7 from 127.0.0.1
outcome  503 Service Unavailable, from the backend sorry
path     /api/orders/7
route    api
limits   body 64MiB, timeout none
backend  sorry (respond)
answers  Content-Type: text/plain; charset=utf-8
         Retry-After: 60

routes, in order of precedence
  orders  method: DELETE is not one of GET, HEAD, POST
  www     host: api.example.com is not example.com
  post    path: /api/orders/7 is not /form
  split   path: /api/orders/7 is not /split
> api     takes the request
`, "-X", "DELETE", "http://api.example.com/api/orders/7")
	f(`
request  GET http://example.com/shop?q from 127.0.0.1
outcome  308 Permanent Redirect, from the backend www
path     /shop
route    www
limits   body 64MiB, timeout none
backend  www (redirect)
answers  Location: https://www.example.com/shop?q

routes, in order of precedence
  orders  host: example.com is not api.example.com
> www     takes the request
  post    path: /shop is not /form
  split   path: /shop is not /split
  api     path: /shop is not below /api/*
`, "http://example.com/shop?q")
	f(`
request  GET /form from 127.0.0.1
outcome  405 Method Not Allowed: no route of this path takes the method
path     /form
answers  Allow: POST
         Cache-Control: no-store
         Content-Type: application/problem+json
         Proxy-Status: sluice; error=http_request_denied

routes, in order of precedence
  orders  host: no host is not api.example.com
  www     host: no host is not example.com
  post    method: GET is not POST
  split   path: /form is not /split
  api     path: /form is not below /api/*
`, "/form")
	f(`
request  GET /%2e%2e%2fetc from 127.0.0.1
outcome  400 Bad Request: the path holds an encoded slash
answers  Cache-Control: no-store
         Content-Type: application/problem+json
         Proxy-Status: sluice; error=http_request_error
`, "/%2e%2e%2fetc")
}

func TestTest(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, ".", "gw.yaml", shop)
	put(t, ".", "cases.yaml", `cases:
  - name: orders
    request: {url: "http://api.example.com/api/orders/7?v=2", headers: {Accept: text/html}, ip: 203.0.113.9}
    want: {route: orders, backend: orders, path: /api/orders/7, upstream_target: "/orders/7?v=2", upstream_host: api.example.com}
  - request: /api/else
    want: {route: api, status: 503, headers: {retry-after: "60", Location: ""}}
  - name: only POST
    request: {method: PUT, url: /form}
    want: {status: 405, headers: {Allow: POST}}
  - {request: /split, want: {backend: orders}}
  - {request: /split, want: {backend: shadow}}
`)
	expect(t, []string{"test", "-config", "gw.yaml", "cases.yaml"}, exitOK, "ok: 5 cases", "")

	put(t, ".", "cases.yaml", `cases:
  - name: orders
    request: "http://api.example.com/api/orders/7?v=2"
    want:
      route: api
      backend: orders
      status: 200
      upstream_target: /api/orders/7?v=2
  - request: /api/else
    want: {route: api, headers: {Retry-After: "10", Location: /x}}
  - request: /nowhere
    want: {route: api}
  - request: /api/x
    want: {route: api}
`)
	expect(t, []string{"test", "-config", "gw.yaml", "cases.yaml"}, exitFailure, `
cases.yaml:5:14: cases[0].want.route: orders: want "api", got "orders"
cases.yaml:7:15: cases[0].want.status: orders: want 200, got forwarded to http://127.0.0.1:9001
cases.yaml:8:24: cases[0].want.upstream_target: orders: want "/api/orders/7?v=2", got "/orders/7?v=2"
cases.yaml:10:47: cases[1].want.headers.Retry-After: want "10", got "60"
cases.yaml:10:63: cases[1].want.headers.Location: want "/x", got nothing (503 Service Unavailable, from the backend sorry)
cases.yaml:12:19: cases[2].want.route: want "api", got nothing (404 Not Found: no route matches the request)
failed: 3 of 4 cases
`, "")

	put(t, ".", "cases.yaml", `cases:
  - name: x
    reqest: /
    want: {rout: a, status: 9}
  - request: {url: "no url", ip: 1}
    want: {}
`)
	expect(t, []string{"test", "-config", "gw.yaml", "cases.yaml"}, exitFailure, "", `
cases.yaml:3:5: cases[0].reqest: unknown key "reqest"; did you mean "request"?
cases.yaml:4:12: cases[0].want.rout: unknown key "rout"; did you mean "route"?
cases.yaml:4:29: cases[0].want.status: must be at least 100, got the number 9
cases.yaml:5:20: cases[1].request.url: "no url" holds white space; write %20
cases.yaml:6:11: cases[1].want: says nothing that could be compared
`)
}
