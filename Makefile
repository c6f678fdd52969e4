# make run and make test work on a fresh machine with Go, make and git, as root
# and as an ordinary user with sudo: they build as that user, and ask for root
# only to install packages, to run the daemon and to run tests.

# Root's PATH often lacks Go: look where its installer and distributions put it.
GO      ?= $(or $(shell command -v go),$(firstword $(wildcard /usr/local/go/bin/go /usr/lib/go/bin/go /usr/lib/go-*/bin/go /snap/bin/go)),go)
CC      ?= cc
CFLAGS  ?= -O2 -Wall -Wextra -Werror
CONFIG  ?= config.example.yaml
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),dev)
COMMIT  ?= $(or $(shell git rev-parse HEAD 2>/dev/null),unknown)

# What to test, and how: make test PKG=./rules/... TESTFLAGS='-run Heal -v'
PKG       ?= ./...
TESTFLAGS ?=
TIMEOUT   ?= 15m
BENCH     ?= .
FUZZTIME  ?= 30s

ASROOT := $(CURDIR)/scripts/asroot.sh
GOTEST  = $(GO) test -exec '$(ASROOT)' -count=1 -timeout $(TIMEOUT)

# Where the black-box tests find what they run.
export CULPRIT_BIN       := $(CURDIR)/bin/culprit
export CULPRIT_OFFENDERS := $(CURDIR)/bin
export CULPRIT_NATS_SERVER := $(CURDIR)/bin/nats-server
export GO

.PHONY: help
help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: go ## build bin/culprit, one static binary
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o bin/culprit ./cmd/culprit

.PHONY: run
run: deps-run build ## install what is missing, build, run the daemon on config.example.yaml
	$(ASROOT) bin/culprit run -c $(CONFIG)

.PHONY: fleet-demo
fleet-demo: deps-run build bin/nats-server ## three hosts in namespaces, nats-server and culprit serve --fleet: see many hosts in a browser
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -o bin/fleetdemo ./test/fleetdemo
	@$(ASROOT) bin/fleetdemo

# The phases of make test, one after the other: most tests depend on timing, so nothing runs
# beside them. If you choose tests (PKG, TESTFLAGS), the rest is left out.
ifeq ($(PKG)$(TESTFLAGS),./...)
PHASES ?= lint units blackbox race fuzz-short packages-test
else
PHASES ?= lint units blackbox
endif

.PHONY: test
test: deps-test build offenders ## install what is missing, build, run every check and test
	@$(ASROOT) true # ask for a password once, not in every package
	@for phase in $(PHASES); do \
		echo "== $$phase"; start=$$(date +%s); \
		$(MAKE) --no-print-directory $$phase || exit; \
		echo "== $$phase took $$(($$(date +%s) - start)) s"; \
	done

# Not in go.mod: their dependencies would become culprit's.
GOFUMPT     := mvdan.cc/gofumpt@v0.9.2
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0

.PHONY: lint
lint: go ## gofumpt, go vet, staticcheck, shellcheck, the manifest for Kubernetes
	@unformatted=$$($(GO) run $(GOFUMPT) -l .) || exit; \
	[ -z "$$unformatted" ] || { echo "not formatted, run: $(GO) run $(GOFUMPT) -w" $$unformatted; exit 1; }
	@$(GO) vet ./... && $(GO) vet -tags pictures ./test/browser
	@$(GO) run $(STATICCHECK) ./...
	@cd packaging/kubernetes/check && $(GO) test ./... # not in go.mod either
	@command -v shellcheck >/dev/null || { echo "error: no shellcheck here: make deps-test installs it"; exit 1; }
	@shellcheck .ci/run scripts/*.sh packaging/*.sh packaging/scripts/*.sh

# The packages whose tests run side by side, and those that drive the whole program and
# wait for it: one at a time, when nothing else loads the machine. One of them is
# report, whose browser takes all of it.
BLACKBOX := /(test|report|selftest)(/|$$)
units    = $(GO) list $(PKG) | { grep -vE '$(BLACKBOX)' || true; }
blackbox = $(GO) list $(PKG) | { grep -E '$(BLACKBOX)' || true; }

.PHONY: units blackbox
units: go bin/nats-server ## run the tests of the packages (PKG, TESTFLAGS as for test)
	@packages=$$($(units)); [ -z "$$packages" ] || $(GOTEST) $(TESTFLAGS) $$packages
blackbox: build offenders ## run the tests of the whole program (PKG, TESTFLAGS)
	@packages=$$($(blackbox)); [ -z "$$packages" ] || $(GOTEST) -p 1 $(TESTFLAGS) $$packages

# Those tests of the whole program between which every goroutine of the daemon has
# something to do. Not TestGate…: with the race detector the gate may miss its deadlines.
RACE_TESTS ?= ^Test(Hunt|First|Proof|Resolver|Intensify|TraceBytes|NeverExecutables|ProcessScope|Matching|Heal|Reload|Stop|SecondSignal|EndWhileAttaching|Lists|TraceCommand|EventsFile|EventsCommand|Redact|TwoDaemons|Metrics)$$

# Tests of packages that fill a catalogue on one goroutine, where nothing can race: with
# the detector SQLite takes minutes for that.
RACE_SKIP ?= ^TestSweepShrinks

# By default every program with the detector sleeps for a second before it ends.
.PHONY: race
race: build-race offenders ## look for data races: in the tests of the packages, and in daemons that hunt
	@packages=$$($(units)); [ -z "$$packages" ] || \
		CGO_ENABLED=1 GORACE=atexit_sleep_ms=0 $(GOTEST) -race -skip '$(RACE_SKIP)' $(TESTFLAGS) $$packages
	@CULPRIT_BIN=$(CURDIR)/bin/culprit-race GORACE='atexit_sleep_ms=0 halt_on_error=1 exitcode=66' \
		$(GOTEST) -p 1 -run '$(RACE_TESTS)' $(TESTFLAGS) ./test/...

.PHONY: build-race
build-race: go
	CGO_ENABLED=1 $(GO) build -race -buildvcs=false -o bin/culprit-race ./cmd/culprit

.PHONY: bench
bench: deps-test build offenders ## run the benchmarks (BENCH=pattern)
	$(GOTEST) -p 1 -run '^$$' -bench '$(BENCH)' -timeout 1h $(TESTFLAGS) $(PKG)

.PHONY: bench-gates
bench-gates: deps-test build offenders ## compare the ways of holding programs at their start
	CATCH_N=$(or $(CATCH_N),1000) $(GOTEST) -run '^$$' -bench Gates -benchtime 1x -timeout 30m $(TESTFLAGS) ./test/bench

.PHONY: bench-catch
bench-catch: deps-test build offenders ## count how many of CATCH_N=2000 short-lived programs are named and traced
	CATCH_N=$(or $(CATCH_N),2000) $(GOTEST) -run '^$$' -bench Catch -benchtime 1x -timeout 30m $(TESTFLAGS) ./test/bench

.PHONY: bench-lists
bench-lists: go ## compare ways to hold a list of a million names (downloads what is compared)
	cd test/bench/lists && $(GO) test -run '^$$' -bench Lists -benchtime 3x $(TESTFLAGS) .

.PHONY: screenshots
screenshots: deps-test build offenders ## take the pictures of the documents anew, of a hunt in Chromium
	CULPRIT_PICTURES=$(CURDIR)/docs $(GOTEST) -tags pictures -run TestPictures ./test/browser

.PHONY: soak
soak: deps-test build offenders ## hunt for SOAK=30m with random faults; plot into docs/soak.png (needs gnuplot)
	@command -v gnuplot >/dev/null || { echo "error: no gnuplot here: install it (apt install gnuplot-nox)"; exit 1; }
	FLEET_FOR=5m $(GOTEST) -run TestManyHosts -v ./fleet
	CULPRIT_SOAK_QUESTIONS=10000000 $(GOTEST) -run TestAgainstMap -v ./lists/set
	SOAK=$(or $(SOAK),30m) SOAK_FILE=$(CURDIR)/bin/soak.txt $(GOTEST) -run TestSoak -v -timeout 0 ./test/soak >bin/soak.log || { tail -50 bin/soak.log; exit 1; }
	@grep -v level= bin/soak.log
	gnuplot -e 'in="bin/soak.txt"; out="docs/soak.png"' scripts/soak.gp

.PHONY: fuzz fuzz-short
fuzz: go ## run every fuzz test, FUZZTIME=30s each
	scripts/fuzz.sh $(FUZZTIME)
fuzz-short: go ## run every fuzz test on 2,000 inputs
	@scripts/fuzz.sh 2000x

.PHONY: offenders
offenders: go bin/offender-c bin/nats-server ## build the programs that send DNS queries in tests, and their nats-server
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -o bin/offender-go ./test/offender

bin/offender-c: test/offender/offender.c
	@mkdir -p bin
	$(CC) $(CFLAGS) -static -o $@ $<

# A module of its own, like the tools above.
bin/nats-server: test/natsserver/go.mod
	cd test/natsserver && CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(CURDIR)/$@ github.com/nats-io/nats-server/v2

.PHONY: deps-run deps-test
deps-run: ## install what is missing to run culprit
	@scripts/deps.sh run
deps-test: ## install what is missing to test culprit
	@CC='$(CC)' scripts/deps.sh test

.PHONY: clean
clean: ## remove what was built
	rm -rf bin

.PHONY: go
go:
	@$(GO) version >/dev/null || { echo "error: no Go here: install Go 1.26 or later, or name it: make GO=/path/to/go"; exit 1; }

.PHONY: packages deb rpm
packages: build ## build a deb and an rpm in bin/packages
	packaging/build.sh '$(VERSION)' deb rpm
deb rpm: build
	packaging/build.sh '$(VERSION)' $@

.PHONY: packages-test
packages-test: packages bin/nats-server ## install, run, upgrade, remove and purge the packages, and run the unit, on copies of this machine
	@$(ASROOT) packaging/test.sh
	@$(ASROOT) packaging/systemd-test.sh
