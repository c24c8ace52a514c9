#!/usr/bin/env bash
# image.sh builds the container image with buildah, from the Dockerfile as it is, and
# runs it with podman as it is meant to run: as no root, over a root that nothing is
# written to, without a capability. `make image-test` runs it, as root. PLATFORM
# (linux/arm64) is built for, too, but not run.
#
# Where the Dockerfile's base image cannot be pulled, one with the same name is made
# of Debian's packages and this machine's Go.
set -euo pipefail
cd "$(dirname "$0")/.."

base=docker.io/library/golang:1.26-bookworm
version=0.0.0-image
work=$(mktemp -d)
export CONTAINERS_STORAGE_CONF=$work/storage.conf TMPDIR=$work
printf '[storage]\ndriver = "overlay"\nrunroot = "%s/run"\ngraphroot = "%s/root"\n' "$work" "$work" >"$CONTAINERS_STORAGE_CONF"
# The Dockerfile's base is Docker Hub's.
export CONTAINERS_REGISTRIES_CONF=$work/registries.conf
echo 'unqualified-search-registries = ["docker.io"]' >"$CONTAINERS_REGISTRIES_CONF"
# Limits as a machine that may not raise them has them, too.
run=(podman --runtime runc --cgroup-manager cgroupfs)
limits=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024)

clean() {
  "${run[@]}" rm --all --force --time 1 >/dev/null 2>&1 || true
  umount -l "$work/root/overlay" 2>/dev/null || true # it mounts that on itself
  rm -rf "$work"
}
trap clean EXIT

fail() {
  echo "image.sh: $*" >&2
  "${run[@]}" logs sociable >&2 || true
  exit 1
}

# stand_in makes what the Dockerfile begins with.
stand_in() {
  echo "$base cannot be pulled here: made of Debian's packages and $(go version)"
  .ci/packages mmdebstrap
  mmdebstrap --quiet --variant=minbase --include=make,ca-certificates bookworm "$work/rootfs" >/dev/null
  cp -a "$(go env GOROOT)" "$work/rootfs/usr/local/go"
  cp /etc/ssl/certs/ca-certificates.crt "$work/rootfs/etc/ssl/certs/"
  local c
  c=$(buildah from scratch)
  buildah add --quiet "$c" "$work/rootfs" / >/dev/null
  buildah config --env PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin --env GOPATH=/go --env GOTOOLCHAIN=local "$c"
  buildah commit --quiet "$c" "$base" >/dev/null
  buildah rm "$c" >/dev/null
  rm -rf "$work/rootfs"
}

# build makes the image for a platform; Debian's buildah takes BUILDPLATFORM for the
# one that is built for, unless it is told. What was fetched and compiled on this machine
# is not fetched and compiled again.
build() {
  buildah build --isolation chroot --network host --format docker --pull-never --platform "$1" \
    --volume "$(go env GOMODCACHE):/go/pkg/mod" --volume "$(go env GOCACHE):/root/.cache/go-build" \
    --build-arg "BUILDPLATFORM=$own" --build-arg "VERSION=$version" --tag "sociable:${1#*/}" . >"$work/log" 2>&1 || { tail -30 "$work/log" >&2; exit 1; }
  [[ $(buildah inspect --type image --format '{{.OCIv1.OS}}/{{.OCIv1.Architecture}}' "sociable:${1#*/}") == "$1" ]] || fail "the image is not for $1"
}

timeout 60 buildah pull --quiet "$base" >/dev/null 2>&1 || stand_in
own=linux/$(go env GOARCH)
build "$own"
[[ -z ${PLATFORM:-} ]] || build "$PLATFORM"

"${run[@]}" run --detach --name sociable "${limits[@]}" --read-only --network none --cap-drop ALL --security-opt no-new-privileges "sociable:${own#*/}" >/dev/null
for _ in {1..120}; do
  if "${run[@]}" healthcheck run sociable >/dev/null 2>&1; then healthy=1; break; fi
  sleep 0.5
done
[[ -n ${healthy:-} ]] || fail "its health check says no for a minute"

pid=$("${run[@]}" inspect --format '{{.State.Pid}}' sociable)
status() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$pid/status"; }
[[ $(status Uid) == 65532 ]] || fail "it runs as user $(status Uid)"
[[ $(status CapEff) =~ ^0+$ && $(status NoNewPrivs) == 1 ]] || fail "it has capabilities: $(grep -E 'Cap|NoNew' "/proc/$pid/status")"
awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo" | grep -q '^ro' || fail "its root can be written to"
inside() { "${run[@]}" exec sociable /sociable "$@"; }
[[ $(inside version) == *"$version"* ]] || fail "it says the version $(inside version)"
inside stats --json | grep -q '"images": *0' || fail "its commands do not find it: $(inside stats --json)"
"${run[@]}" stop --time 30 sociable >/dev/null
code=$("${run[@]}" inspect --format '{{.State.ExitCode}}' sociable)
[[ $code == 0 ]] || fail "stopped, it ended with $code"
echo "image: $("${run[@]}" image inspect --format '{{.Size}}' "sociable:${own#*/}") bytes; healthy as user 65532, read-only, without capabilities; stopped in order${PLATFORM:+; built for $PLATFORM, too}"
