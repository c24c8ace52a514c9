#!/usr/bin/env bash
# deb.sh PACKAGE installs the Debian package into a bare Debian of its own, as apt does,
# and looks at what is there then: the unit as systemd reads it, the program over the
# configuration that came with it, as another user than root, the manual pages. Then it
# is removed and purged. `make deb-test` runs it, as root. Nothing is booted: that
# systemd starts the unit in its sandbox is not tested here.
set -euo pipefail
package=$(realpath "$1")
"$(dirname "$0")/../.ci/packages" mmdebstrap
work=$(mktemp -d)
root=$work/root

clean() {
  [[ -z ${server:-} ]] || kill "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap clean EXIT
fail() {
  echo "deb.sh: $*" >&2
  cat "$work/log" >&2 || true
  exit 1
}
inside() { chroot "$root" "$@"; }
# A command behind it runs as the unit's do: as nobody, over the unit's store.
as_service=(chroot --userspec=65534:65534 "$root" env -i PATH=/usr/bin:/bin SOCIABLE_STORAGE_PATH=/var/lib/sociable)

mmdebstrap --quiet --variant=apt --include=systemd,man-db bookworm "$root" >/dev/null
cp "$package" "$root/tmp/sociable.deb"
cp --remove-destination /etc/resolv.conf "$root/etc/resolv.conf"
inside apt-get -qq update >"$work/log" 2>&1 || fail "apt knows no packages"
inside env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends /tmp/sociable.deb >"$work/log" 2>&1 || fail "apt does not install it"
inside dpkg --verify sociable >"$work/log" && [[ ! -s $work/log ]] || fail "what is installed is not what is in the package"
version=$(inside dpkg-query -W -f '${Version}' sociable)
[[ $(inside sociable version) == *"${version//\~/-}"* ]] || fail "the package is $version, the program says $(inside sociable version)"
inside systemd-analyze verify /usr/lib/systemd/system/sociable.service >"$work/log" 2>&1 && [[ ! -s $work/log ]] || fail "systemd has something to say of the unit"
inside systemd-analyze security --offline=true --threshold=15 --no-pager sociable.service >"$work/log" 2>&1 || fail "the unit's sandbox has holes"
exposure=$(grep -o 'Overall exposure.*: [0-9.]*' "$work/log" | grep -o '[0-9.]*$')
inside man --where sociable >"$work/log" 2>&1 || fail "it has no manual"
inside sociable config check /etc/sociable/config.yml >"$work/log" 2>&1 || fail "the configuration that came with it is refused"

install -d -o 65534 -g 65534 -m 700 "$root/var/lib/sociable"
"${as_service[@]}" SOCIABLE_LISTEN=127.0.0.1:${DEB_PORT:-17300} SOCIABLE_ADMIN_LISTEN=127.0.0.1:${DEB_ADMIN_PORT:-17301} \
  sociable serve --config /etc/sociable/config.yml >"$work/log" 2>&1 &
server=$!
for _ in {1..120}; do
  if "${as_service[@]}" sociable healthcheck >/dev/null 2>&1; then healthy=1; break; fi
  sleep 0.5
done
[[ -n ${healthy:-} ]] || fail "it is not healthy within a minute"
"${as_service[@]}" sociable doctor --proxy "127.0.0.1:${DEB_PORT:-17300}" >"$work/doctor" 2>&1 || { cat "$work/doctor"; fail "the doctor finds a fault"; }
"${as_service[@]}" sociable stats >/dev/null || fail "commands do not find the server"
"${as_service[@]}" sociable config reload >"$work/doctor" 2>&1 || fail "the unit's ExecReload fails"
kill "$server"
wait "$server" || fail "stopped, it ended with $?"
server=

inside env DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y sociable >"$work/log" 2>&1 || fail "it can't be purged"
for left in usr/bin/sociable etc/sociable var/lib/sociable usr/lib/systemd/system/sociable.service; do
  [[ ! -e $root/$left ]] || fail "purged, it leaves /$left"
done
echo "deb: $version installed by apt, exposure $exposure by systemd-analyze security, healthy, doctor ok, purged"
