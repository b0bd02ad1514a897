# shellcheck shell=bash disable=SC2034
# Shared by the scripts beside it; sourced, not run. Brings a fresh Debian 12,
# Debian 13 or Raspberry Pi OS machine to where the project can be built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HOME=${HOME:-/root} LC_ALL=C.UTF-8

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "installing packages needs root: run as root, or install sudo"; fi
}

# need PACKAGE... installs what is missing of Debian's packages, and says so.
need() {
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f '${Architecture} ${db:Status-Status}\n' "$p" 2>/dev/null |
      grep -qxE "(all|$(dpkg --print-architecture)) installed" || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  # A machine that has just booted may be updating itself.
  until as_root apt-get update -qq; do
    [ $SECONDS -lt 300 ] || die "apt-get update fails; see above"
    say "apt-get update fails; trying again in 5 s"
    sleep 5
  done
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

BUILD_PACKAGES=(ca-certificates gcc libc6-dev pkg-config portaudio19-dev libspeexdsp-dev)
DEMO_PACKAGES=(procps espeak-ng pocketsphinx pocketsphinx-en-us libasound2-plugins sox)
TEST_PACKAGES=(git mosquitto mosquitto-clients pulseaudio pulseaudio-utils shellcheck procps iproute2
  openssh-server openssl tmux)

go_version() { awk '$1 == "go" { print $2; exit }' go.mod; }

# good_go GO tells whether GO is new enough for go.mod.
good_go() {
  local have
  have=$("$1" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$(go_version)" "${have#go}" | sort -V | head -n 1)" = "$(go_version)" ]
}

# need_go puts a Go that is new enough on PATH. Where Debian's own is older it
# fetches the right one as a module, checksum-verified, from the module proxy
# that Go uses anyway: since Go 1.21 by itself, before that with our help.
need_go() {
  local go
  for go in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
    go=$(command -v "$go") || continue
    if good_go "$go"; then
      PATH=$(dirname "$go"):$PATH
      return
    fi
  done
  need golang-go
  good_go go && return
  local module root
  module=golang.org/toolchain@v0.0.1-go$(go_version).$(go env GOOS)-$(go env GOARCH)
  say "fetching Go $(go_version): Debian's is $(cd / && go env GOVERSION)"
  root=$(cd / && go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$root" ] || die "cannot fetch $module: install Go $(go_version) or newer and put it on PATH"
  chmod -R u+w "$root"
  find "$root/bin" "$root/pkg/tool" -type f -exec chmod +x {} +
  PATH=$root/bin:$PATH
}

# need_linter puts the pinned linter on PATH; the first time it takes two minutes.
need_linter() {
  local version=2.15.0 bin=$PWD/.cache/bin
  PATH=$bin:$PATH
  golangci-lint version --short 2>/dev/null | grep -qx "$version" && return
  say "building golangci-lint $version"
  GOBIN=$bin go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v$version"
}
