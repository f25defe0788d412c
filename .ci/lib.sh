# What the run scripts share: where things are, progress lines, and installing what is missing. Sourced by bash.
# SPDX-License-Identifier: BSL-1.0
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 2; }

# need PACKAGE...: installs the Debian packages that are not there yet, with sudo where that is needed.
need() {
  local missing=() package
  command -v dpkg-query >/dev/null ||
    die "this script installs with apt; elsewhere install the equivalents of: $* and build with cmake --preset dev"
  for package in "$@"; do
    [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || die "not installed: ${missing[*]}; run as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${missing[*]}"
  local log
  log=$(mktemp)
  if ! { "${as_root[@]}" apt-get update && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    die "could not install ${missing[*]}: see the lines above"
  fi
  rm -f "$log"
}

build_packages=(g++ cmake ninja-build libasio-dev libsimdjson-dev zlib1g-dev)

# build PRESET [TARGET...]: configures once, then builds; quiet unless it fails.
build() {
  local preset=$1 launcher=() log
  shift
  command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  say "building ($preset)"
  mkdir -p build
  log=build/$preset.log
  if ! { cmake --preset "$preset" "${launcher[@]}" && cmake --build --preset "$preset" ${1:+--target "$@"}; } >"$log" 2>&1; then
    grep -E 'error|Error|FAILED' -A 12 "$log" | head -n 60 >&2 || true
    die "the build failed: the whole log is in $log"
  fi
}
