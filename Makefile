# make            build bin/sociable
# make test       everything that must pass; at most 15 minutes on two cores
# make help       the other targets

GO ?= go
ENGINE ?= docker
VERSION ?= $(or $(shell git describe --tags --always --dirty 2>/dev/null),(devel))
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
# Expanded where it is used: deb has a version of its own.
LDFLAGS = -s -w -X 'main.buildVersion=$(VERSION)' -X 'main.buildCommit=$(COMMIT)'

# What the tests run or link that is no Go module. docker-registry is the real
# upstream, skopeo a real client; zlib is what the official indexer is built on.
# prometheus has promtool, systemd has systemd-analyze.
PACKAGES := chromium nodejs npm prometheus systemd gcc zlib1g-dev ca-certificates skopeo podman buildah docker-registry apt dpkg pigz xz-utils

GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.0
CYCLONEDX := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0
FUZZTIME ?= 10s
ROWS ?= .
RUN ?= .
KILLS ?= 300

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.NOTPARALLEL:
.DEFAULT_GOAL := build
.PHONY: screenshots bench-dashboard big-store help build test packages vet unit purego static deploy e2e conformance bench bench-ztoc bench-datapath run-bench crash disk-full huge wild fuzz lint docs image image-test deb deb-test sbom clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## build       bin/sociable, static, stamped with version and commit
build:
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" -o bin/sociable ./cmd/sociable

## test        packages, vet, unit, purego, static, deploy, e2e
test: packages vet unit purego static deploy e2e

## packages    the Debian packages that the tests need: installed, or named
packages:
	.ci/packages $(PACKAGES)

## vet         go vet of the modules, and of the zTOC engine where an int has 32 bits
vet:
	$(GO) vet ./...
	GOARCH=386 $(GO) vet ./ztoc/...
	cd e2e && $(GO) vet ./...
	cd e2e/wild && $(GO) vet ./...
	cd e2e/wild/stargz && $(GO) vet ./...

## unit        the product's own tests, under the race detector
unit:
	CGO_ENABLED=1 $(GO) test -race -timeout 10m ./...

## purego      the zTOC engine without unsafe, too; the memory it takes, and a moment's fuzzing of its decoder, in both builds
purego:
	$(GO) test -tags purego ./ztoc/...
	$(GO) test -run '^TestMemory$$' ./ztoc
	for tags in '' purego; do \
		$(GO) test -tags "$$tags" -run '^$$' -fuzz '^FuzzInflate$$' -fuzztime 5s -fuzzminimizetime 1x ./ztoc/internal/inflate || exit 1; \
	done

## static      the product builds without cgo, and into a static binary
static: build
	$(GO) version -m bin/sociable | grep 'CGO_ENABLED=0'
	! readelf -d bin/sociable | grep NEEDED

## deploy      what is deployed: alerts, dashboard, chart, compose file, unit
deploy:
	systemd-analyze security --offline=true --threshold=15 --no-pager deploy/sociable.service >/dev/null
	cd deploy && promtool check rules prometheus/rules.yml && promtool test rules prometheus/rules_test.yml && $(GO) vet ./... && $(GO) test ./...

## e2e         whole-binary tests: real images, registries and clients, the official indexer as judge
e2e: build
	cd e2e && E2E_SOCIABLE=$(CURDIR)/bin/sociable $(GO) test -timeout 14m ./...

## conformance SUITE=FOLDER  the OCI distribution specification's suite: see docs/conformance.md
conformance: build
	e2e/conformance.sh "$(SUITE)" bin/sociable

## bench       all benchmarks, with direct transfers or the official builder beside ours in the same run
bench: BENCH = .
bench: run-bench

## bench-ztoc  the zTOC engine against the official builder
bench-ztoc: BENCH = ^BenchmarkZTOC
bench-ztoc: run-bench

## bench-dashboard  every page over 100,000 images, and what the dashboard costs the data path
bench-dashboard: BENCH = ^BenchmarkDashboard
bench-dashboard: run-bench

## big-store   DATA=FOLDER  the rows of 100,000 images and 1,000,000 spans, to look at what grows with them
big-store:
	cd e2e && $(GO) run ./bigstore/make -data '$(abspath $(DATA))'

## bench-datapath  every row of the data path, beside nginx and docker-registry; some 20 minutes; ROWS='cold HEAD' for some, by their names
bench-datapath: build
	.ci/packages nginx docker-registry
	cd e2e && $(GO) run ./datapath -sociable $(CURDIR)/bin/sociable -rows '$(ROWS)' $(DATAPATH_FLAGS)

## crash       KILLS (300) kill -9 of the server under load, every byte compared after each
crash: build
	cd e2e && E2E_SOCIABLE=$(CURDIR)/bin/sociable E2E_KILLS=$(KILLS) $(GO) test -count 1 -timeout 60m -run '^TestKillAtRandomMoments$$' -v .

## disk-full   pulls over a real file system that is full; as root, since it mounts one
disk-full: build
	cd e2e && E2E_SOCIABLE=$(CURDIR)/bin/sociable $(GO) test -count 1 -timeout 10m -tags smallfs -run '^TestDiskFull$$' -v .

## huge        an image of 20 GB, in two layers, indexed in a store that holds one of them; 12 GB of disk, some minutes
huge: build
	cd e2e && E2E_SOCIABLE=$(CURDIR)/bin/sociable E2E_HUGE_LAYER=10000000000 $(GO) test -count 1 -timeout 20m -run '^TestBackfill$$' -v ./huge

## wild        containerd, runc and soci-snapshotter, installed here, start containers lazily; as root with /dev/fuse; RUN=regexp for some tests
wild: PACKAGES = gcc zlib1g-dev ca-certificates docker-registry skopeo podman buildah apt dpkg runc
wild:
	@[[ $$EUID == 0 && -c /dev/fuse ]] || { echo 'make wild: needs root and /dev/fuse, since it mounts images' >&2; exit 1; }
	@$(MAKE) --no-print-directory build
	.ci/packages $(PACKAGES)
	cd e2e/wild && E2E_SOCIABLE=$(CURDIR)/bin/sociable $(GO) test -count 1 -timeout 60m -run '$(RUN)' -v .

run-bench: build
	cd e2e && E2E_SOCIABLE=$(CURDIR)/bin/sociable $(GO) test -timeout 30m -run '^$$' -bench '$(BENCH)' -benchtime 1x ./... \
		| awk '{ print; fflush() } /^Benchmark/ { n++ } END { exit n == 0 }' # a run of none is a mistake

## fuzz        each fuzz test for FUZZTIME (10s)
fuzz:
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

## lint        gofmt, and golangci-lint with .golangci.yml
lint:
	@unformatted=$$(gofmt -l .); [[ -z $$unformatted ]] || { echo "gofmt: $$unformatted"; exit 1; }
	$(GO) run $(GOLANGCI) run ./...

## image       a container image, sociable:VERSION
image:
	$(ENGINE) build --build-arg VERSION='$(VERSION)' --build-arg COMMIT='$(COMMIT)' -t 'sociable:$(VERSION)' .

## image-test  that image, for PLATFORM (linux/arm64), too, built by buildah and run by podman, read-only and as no root; as root
image-test: PLATFORM ?= linux/arm64
image-test:
	.ci/packages buildah podman runc
	PLATFORM=$(PLATFORM) e2e/image.sh

## deb-test    the Debian package, installed by apt into a bare Debian, used and purged; as root
deb-test: deb
	e2e/deb.sh bin/sociable_*.deb

## docs        docs/reference anew, from the code
docs:
	$(GO) test ./cmd/sociable -run "^TestReference$$" -update -count 1

## screenshots  docs/screenshots anew, out of the dashboard's tests
screenshots: build
	cd e2e && DASHBOARD_SHOTS=$(CURDIR)/docs/screenshots E2E_SOCIABLE=$(CURDIR)/bin/sociable $(GO) test -count 1 -run '^TestInBrowser$$' ./dashboard

## deb         bin/sociable_VERSION_ARCH.deb
deb: export VERSION := $(patsubst v%,%,$(or $(shell git describe --tags --match 'v*' 2>/dev/null),0.1.0-dev))
deb: export ARCH := $(shell $(GO) env GOARCH)
deb: build
	rm -rf bin/man bin/completion bin/sociable_*.deb && mkdir -p bin/man bin/completion
	bin/sociable man bin/man && gzip -9n bin/man/*.1
	bin/sociable completion bash > bin/completion/sociable.bash
	bin/sociable completion zsh > bin/completion/_sociable
	bin/sociable completion fish > bin/completion/sociable.fish
	$(GO) run $(NFPM) package --config deploy/nfpm.yaml --packager deb --target bin/

## sbom        bin/sociable.cdx.json: what the program is made of, as CycloneDX
sbom: build
	$(GO) run $(CYCLONEDX) bin -json -version '$(VERSION)' -output bin/sociable.cdx.json bin/sociable

## clean       what was built
clean:
	rm -rf bin
