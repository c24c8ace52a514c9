#!/bin/bash
# conformance.sh SUITE [SOCIABLE]
#
# Runs the OCI distribution specification's conformance suite against a fresh
# `sociable serve`, with every workflow and data option on. SUITE is the program
# built of the suite's sources, or the folder that holds them, conformance/ of
# github.com/opencontainers/distribution-spec. It fails when a test fails or is
# skipped. Results go to e2e/.cache/conformance.
set -euo pipefail
suite=$(realpath "${1:?which suite? see docs/conformance.md}")
sociable=$(realpath "${2:-bin/sociable}")
cd "$(dirname "$0")"
out=$PWD/.cache/conformance
rm -rf "$out"
mkdir -p "$out"
if [[ -d $suite ]]; then
	(cd "$suite" && go build -o "$out/suite" .)
	suite=$out/suite
fi
addr=127.0.0.1:${CONFORMANCE_PORT:-5750}
cat >"$out/config.yml" <<Y
listen: $addr
admin: {listen: ""}
storage: {path: $out/data}
upstreams: {none: {url: "http://127.0.0.1:9"}}
hosted: {conformance: {sparse: true}} # the suite pushes manifests of which a part is missing
Y
"$sociable" serve --config "$out/config.yml" >"$out/sociable.log" 2>&1 &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$out/data"' EXIT
for _ in {1..100}; do
	curl -sf "http://$addr/v2/" >/dev/null && break
	sleep 0.1
done
cd "$out"
env OCI_VERSION=dev OCI_REGISTRY="$addr" OCI_TLS=disabled OCI_REPO1=conformance/repo1 OCI_REPO2=conformance/repo2 \
	OCI_DATA_SPARSE=true OCI_RESULTS_DIR="$out/results" "$suite" >report.txt || { cat report.txt; exit 1; }
sed -n '/^OCI Conformance Result/,/^$/p' report.txt
grep -Eq '^ *Skip\.+: +0$' report.txt && grep -Eq '^ *Disabled\.+: +0$' report.txt && grep -Eq '^ *(FAIL)\.+: +0$' report.txt ||
	{ echo "not everything passed: see $out/report.txt"; exit 1; }
