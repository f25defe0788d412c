# What the run scripts share: where things are, progress lines, and installing what is missing. Sourced by bash.
# SPDX-License-Identifier: BSL-1.0
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

say() { printf '== %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 2; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null || true)" = installed ]; }

# need PACKAGE...: installs the Debian packages that are not there yet, with sudo where that is needed. Of A|B one is
# enough: an installed one, else the first that this release has.
need() {
  local missing=() chosen=() package name
  command -v dpkg-query >/dev/null ||
    die "this script installs with apt; elsewhere install the equivalents of: $* and build with cmake --preset dev"
  for package in "$@"; do
    for name in ${package//|/ }; do installed "$name" && continue 2; done
    missing+=("$package")
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
  "${as_root[@]}" apt-get update >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "apt-get update failed: see the lines above"; }
  for package in "${missing[@]}"; do
    for name in ${package//|/ }; do
      # Not `apt-cache show`: of a package that others only mention it says nothing, and succeeds.
      if [[ $(LC_ALL=C apt-cache policy "$name" 2>/dev/null) == *'Candidate: '[!\(]* ]]; then break; fi
    done
    chosen+=("$name")
  done
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${chosen[@]}" >"$log" 2>&1; then
    tail -n 5 "$log" >&2
    die "could not install ${chosen[*]}: see the lines above"
  fi
  rm -f "$log"
}

boost_package="libboost1.81-dev|libboost1.88-dev|libboost1.83-dev" # Debian 12, 13; Ubuntu 24.04
build_packages=(g++ cmake ninja-build libasio-dev libsimdjson-dev libspdlog-dev zlib1g-dev libssl-dev "$boost_package")

# progress LOG WHAT: appends ninja's output to LOG and shows how far it is: in place on a terminal, else in a line every
# ten seconds.
progress() {
  local log=$1 what=$2 line steps=compiling started=$SECONDS shown=$SECONDS status
  while :; do
    status=0
    IFS= read -r -t 1 line || status=$?
    if [ $status = 0 ]; then
      printf '%s\n' "$line" >>"$log"
      [[ $line =~ ^\[([0-9]+)/([0-9]+)\] ]] && steps="${BASH_REMATCH[1]} of ${BASH_REMATCH[2]}"
      [[ $line != *'no work to do'* ]] || steps="up to date"
    else
      printf '%s' "$line" >>"$log" # what has come of a line
      [ $status -gt 128 ] || break # else the second is over
    fi
    if [ -t 2 ]; then
      printf '\r\033[K== %s: %s, %s s' "$what" "$steps" $((SECONDS - started)) >&2
    elif ((SECONDS - shown >= 10)); then
      shown=$SECONDS
      say "$what: $steps, $((SECONDS - started)) s"
    fi
  done
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
  say "$what: $steps, $((SECONDS - started)) s"
}

# report_left_out LOG: what CMake said that it leaves out, each once.
report_left_out() {
  local line
  sed -n 's/^-- Left out: //p' "$1" | sort -u | while IFS= read -r line; do say "left out: $line"; done
}

# build PRESET [TARGET...]: configures, then builds; shows its progress, and the errors when it fails. Where
# HOLDFAST_COMPILER is set, with that compiler, in a folder of its own; where `build_variant` is, with the options of CMake
# in `variant_options`, in a folder of that name too.
build() {
  local preset=$1 folder=$1${build_variant:+_$build_variant} launcher=() log
  shift
  [ -z "${build_variant:-}" ] || launcher+=("${variant_options[@]}")
  command -v ccache >/dev/null && launcher+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  command -v mold >/dev/null && launcher+=(-DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=mold)
  if [ -n "${HOLDFAST_COMPILER:-}" ]; then
    folder+=_${HOLDFAST_COMPILER##*/}
    launcher+=("-DCMAKE_CXX_COMPILER=$HOLDFAST_COMPILER")
  fi
  mkdir -p build
  log=build/$folder.log
  if ! { cmake --preset "$preset" -B "build/$folder" "${launcher[@]}" >"$log" 2>&1 && report_left_out "$log"; } ||
    ! NINJA_STATUS='[%f/%t] ' cmake --build "build/$folder" ${1:+--target "$@"} 2>&1 | progress "$log" "building ($preset)"; then
    grep -E 'error|Error|FAILED' -A 12 "$log" | head -n 60 >&2 || true
    die "the build failed: the whole log is in $log"
  fi
}
