# make run | test | check | bench | microbench | cache-tests DIR=… | alerts | phases | journey | fuzz | soak | limits-proof | checker | cover | build
# Everything is set up by what needs it: Go and make are enough.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null)
FUZZTIME    ?= 30s
MODULES     := . interop bench

.PHONY: run build test check bench rivals microbench fuzz soak limits-proof checker cover cache-tests compiler redis postgresql prometheus alerts phases journey gofmt vet staticcheck vulnerabilities graph modules

run:
	$(GO) run ./cmd/gateway

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.release=$(VERSION)' -o bin/ ./cmd/...

# The race detector needs cgo, and cgo a C compiler; some tests need a real
# redis-server, others a real PostgreSQL, those of the alerts Prometheus.
test: compiler redis postgresql prometheus
	@if printf '#include <stdlib.h>\nint main(void){return 0;}' | $${CC:-gcc} -x c -o /dev/null - 2>/dev/null; then \
		for module in $(MODULES); do \
			echo "$(GO) -C $$module test -race ./..."; CGO_ENABLED=1 $(GO) -C $$module test -race -pgo=off ./... || exit; \
		done; \
	else \
		echo 'No C compiler: the tests run WITHOUT the race detector. Install gcc to have it.'; \
		for module in $(MODULES); do \
			echo "$(GO) -C $$module test ./..."; $(GO) -C $$module test -pgo=off ./... || exit; \
		done; \
	fi

compiler:
	@if ! command -v $${CC:-gcc} >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing a C compiler for the race detector'; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gcc libc6-dev; } >/dev/null || true; \
	fi

redis:
	@if ! command -v redis-server >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing redis-server for the tests of what gateways share'; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server; } >/dev/null || true; \
	fi
	@command -v redis-server >/dev/null || echo 'No redis-server: the tests of what gateways share will fail. Install it (apt-get install redis-server).'

postgresql:
	@if ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing PostgreSQL for the tests of the user service'; \
		{ apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; } >/dev/null || true; \
	fi
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || echo 'No PostgreSQL: the tests of the user service will fail. Install it (apt-get install postgresql).'

# Taken out of Debian's package rather than installed: that would start a
# Prometheus on every address.
prometheus:
	@if ! command -v promtool >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Fetching Prometheus for the tests of the alerts'; \
		{ dir=$$(mktemp -d) && chmod 755 $$dir && cd $$dir && apt-get update -qq && apt-get download -qq prometheus && \
		dpkg -x prometheus_*.deb . && install -m 755 usr/bin/prometheus usr/bin/promtool /usr/local/bin/ && rm -r $$dir; } >/dev/null 2>&1 || true; \
	fi
	@command -v promtool >/dev/null || echo 'No promtool: the tests of the alerts are skipped, and fail in CI. Install it (Debian: prometheus).'

alerts: prometheus
	promtool check config deploy/prometheus/prometheus.yml
	promtool test rules deploy/prometheus/rules_test.yaml deploy/prometheus/rules_slow_test.yaml

# Every phase of deploy/phases, started with what it needs, asked, and stopped.
phases: redis postgresql
	CI=true $(GO) test -count=1 -pgo=off -v -run '^TestPhases$$' ./deploy

# Every phase under the same load; writes bench/JOURNEY.md and its charts. It
# takes half an hour with its million users (JOURNEY='-n 20000 …' for fewer), and
# wants the machine for itself.
journey: redis postgresql
	$(GO) -C bench run ./journey $(JOURNEY)

check: gofmt vet staticcheck graph modules vulnerabilities

gofmt:
	@out=$$(gofmt -l .) && [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }

vet:
	@set -e; for module in $(MODULES); do echo "$(GO) -C $$module vet ./..."; $(GO) -C $$module vet ./...; done

staticcheck:
	@set -e; for module in $(MODULES); do echo "$(GO) -C $$module run $(STATICCHECK) ./..."; $(GO) -C $$module run $(STATICCHECK) ./...; done

graph:
	$(GO) test ./internal/lint

modules:
	@set -e; for module in $(MODULES); do \
		echo "$(GO) -C $$module mod tidy -diff, mod verify"; \
		$(GO) -C $$module mod tidy -diff; $(GO) -C $$module mod verify; \
	done

# Without the network the database of vulnerabilities is out of reach; what it
# would have said is then for another day.
vulnerabilities:
	@echo '$(GO) run $(GOVULNCHECK) ./...'; \
	out=$$($(GO) run $(GOVULNCHECK) ./... 2>&1); code=$$?; \
	if [ $$code -eq 0 ]; then \
		echo "$$out"; \
	elif echo "$$out" | grep -qE 'fetching vulnerabilities|no such host|connection refused|i/o timeout|dial tcp|Forbidden|unexpected status'; then \
		echo "govulncheck skipped: its database cannot be reached from here"; \
	else \
		echo "$$out"; exit $$code; \
	fi

# Sluice beside HAProxy, nginx, Varnish and Caddy: writes bench/RESULTS.md. About
# a quarter of an hour on a machine with nothing else to do.
bench: rivals
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/gateway ./cmd/gateway
	cd bench && $(GO) run . -peers -gateway ../bin/gateway -rounds 3 -duration 4s

rivals:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		for need in wrk:wrk nginx:nginx haproxy:haproxy varnish:varnishd caddy:caddy redis-server:redis-server; do \
			command -v $${need#*:} >/dev/null && continue; \
			echo "Installing $${need%:*} for the comparison"; \
			{ apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $${need%:*}; } >/dev/null 2>&1 || echo "$${need%:*} cannot be installed"; \
		done; \
	fi
	@command -v wrk >/dev/null && command -v nginx >/dev/null || { echo 'The comparison needs wrk and nginx (the load and the origin).'; exit 1; }

# What single functions cost, beside their code.
microbench:
	$(GO) test -run '^$$' -bench . -benchmem ./...

# Every fuzz target there is, each for FUZZTIME.
fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

# The long version of what make test does with less: bodies of 2 GiB, 500
# reloads; and what takes minutes: clients that do not read.
soak: checker
	$(GO) test -tags long -count=1 -timeout 30m -run '^TestE2E(Memory|Reload|WriteStall|Limit)' -v ./cmd/gateway

# Three gateways over one Redis, each under wrk, hold one limit together in every
# window, and Redis dies on the way.
limits-proof: compiler redis rivals
	$(GO) test -tags long -count=1 -pgo=off -run '^TestE2ELimit' -v ./cmd/gateway
	$(GO) test -count=1 -pgo=off -run '^TestRate(Envelope|Small|Debt|Pays|Credit)' -v ./limiter

# Clients of the user service keep a journal while its servers are killed, hang
# and lag: four shards, each a primary and two replicas.
checker: postgresql redis
	$(GO) test -tags long -count=1 -timeout 30m -run 'AtLength$$' -v ./internal/users/...

cover:
	$(GO) test -coverpkg=./... -coverprofile=cover.out ./...
	$(GO) tool cover -func=cover.out | tail -n 1

# The public suite http-tests/cache-tests, which is in DIR, with npm i done. TALLY
# counts by the suite's own rules; FAILED=1 lists what did not pass. What stays red,
# and why, is in edgecache/doc.go. PEER=nginx or varnish runs the same against those.
DIR   ?= ../cache-tests
TALLY ?= ../shared/cache-tests/tally.mjs
PEER  ?= gateway
PEERS := $(abspath edgecache/testdata)/cache-tests

cache-tests: build
	@set -e; \
	out=$$(mktemp -d); origin=; gateway=; \
	trap '[ -z "$$gateway" ] || kill $$gateway; [ -z "$$origin" ] || kill $$origin; rm -rf "$$out"' EXIT; \
	( cd "$(DIR)" && npm_config_protocol=http npm_config_port=8000 npm_config_pidfile="$$out/pid" exec node test-engine/server/server.mjs ) >"$$out/origin" 2>&1 & origin=$$!; \
	case $(PEER) in \
	nginx) exec nginx -p "$$out" -e "$$out/error" -c $(PEERS).nginx;; \
	varnish) exec varnishd -F -j none -n "$$out/varnish" -a 127.0.0.1:8765 -f $(PEERS).vcl -s malloc,256m -t 0 -p default_grace=0;; \
	*) exec bin/gateway run -config $(PEERS).yaml;; \
	esac >"$$out/gateway" 2>&1 & gateway=$$!; \
	sleep 2; \
	( cd "$(DIR)" && npm_package_config_id= npm_config_base=http://127.0.0.1:8765 node --no-warnings test-engine/cli.mjs ) >"$$out/results.json"; \
	node "$(TALLY)" "$(DIR)" "$$out/results.json"
