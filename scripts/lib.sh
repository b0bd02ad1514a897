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

# have PACKAGE[:ARCH] tells whether it is installed, if not told otherwise for
# this machine's own architecture.
have() {
  local arch
  arch=$(dpkg --print-architecture)
  [[ $1 != *:* ]] || arch=${1#*:}
  [[ " $(dpkg-query -W -f '${Architecture}=${db:Status-Status} ' "$1" 2>/dev/null)" =~ " "($arch|all)=installed" " ]]
}

# need PACKAGE[:ARCH]... installs what is missing of Debian's packages, and says so.
need() {
  local missing=() p
  for p in "$@"; do have "$p" || missing+=("$p"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  # One list that cannot be had (a mirror is being synchronised) may not matter.
  as_root apt-get update -qq || say "some of apt's lists could not be fetched; going on with those there are"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# The topmost version of the changelog.
version=$(sed -n 's/^## \[\?\([0-9][^] ]*\).*/\1/p' CHANGELOG.md | head -n 1)

# go_build DIR PROGRAM... builds programs of cmd/ into DIR. lintod-audio needs C;
# the others must do without.
go_build() {
  local dir=$1 program cgo
  shift
  mkdir -p "$dir"
  for program in "$@"; do
    cgo=0
    [ "$program" != lintod-audio ] || cgo=1
    CGO_ENABLED=$cgo go build -trimpath -ldflags "-s -w -X lintod/agent.Version=$version" -o "$dir/" "./cmd/$program"
  done
}

BUILD_PACKAGES=(ca-certificates gcc libc6-dev pkg-config portaudio19-dev libspeexdsp-dev libmpg123-dev libvorbis-dev libopusfile-dev)
DEMO_PACKAGES=(espeak-ng pocketsphinx pocketsphinx-en-us libasound2-plugins sox)
TEST_PACKAGES=(git alsa-utils mosquitto mosquitto-clients pulseaudio pulseaudio-utils shellcheck procps iproute2
  openssh-server openssl tmux flac opus-tools lame vorbis-tools ffmpeg flite pocketsphinx-testdata)

go_version() { awk '$1 == "go" { print $2; exit }' go.mod; }

# good_go GO tells whether GO is new enough for go.mod.
good_go() {
  local have
  have=$("$1" env GOVERSION 2>/dev/null) || return 1
  [ "$(printf '%s\n' "$(go_version)" "${have#go}" | sort -V | head -n 1)" = "$(go_version)" ]
}

# need_go puts a Go that is new enough on PATH. Debian's own is older; it is
# enough to fetch the right one as a module, checksum-verified, with no host to
# trust but the module proxy that Go uses anyway.
need_go() {
  local go
  for go in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
    go=$(command -v "$go") || continue
    if GOTOOLCHAIN=local good_go "$go"; then
      PATH=$(dirname "$go"):$PATH
      return
    fi
  done
  need golang-go
  local module root
  module=golang.org/toolchain@v0.0.1-go$(go_version | sed 's/\.0$//').$(go env GOOS)-$(go env GOARCH)
  say "fetching Go $(go_version) (Debian's is $(go env GOVERSION))"
  root=$(cd / && GO111MODULE=on GOFLAGS=-mod=mod go mod download -json "$module" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
  [ -n "$root" ] || die "cannot fetch $module: install Go $(go_version) or newer and put it on PATH"
  chmod -R u+w "$root"
  chmod +x "$root"/bin/* "$root"/pkg/tool/*/*
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
