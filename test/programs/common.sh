# SPDX-License-Identifier: MIT
# common.sh: sourced by the scripts of this folder. A real program runs twice, on the system's malloc and on ours; what it prints and its
# exit status have to be the same, byte by byte, and the second run has to prove that it really was on ours.
#
# From ctest: SEEMALLOC_LIB (the library to preload), SOURCE_DIR, PROGRAMS (folder of the compiled programs), CC, CXX.
# PROVE=no leaves the proof out, so that any other malloc can be put in SEEMALLOC_LIB: tells a mistake in a test from one in the engine.
set -euo pipefail

lib=${SEEMALLOC_LIB:-}
source_dir=${SOURCE_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}
programs=${PROGRAMS:-.}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export LC_ALL=C TZ=UTC
# Names that begin with SEEMALLOC_ are settings of the library; these were only for this script.
unset LD_PRELOAD "${!SEEMALLOC_@}" "${!MALLOC_@}" GLIBC_TUNABLES

skip() {
    echo "skipped: $*"
    exit 77
}
die() {
    echo "failed: $*" >&2
    exit 1
}
need() {
    local program
    for program; do command -v "$program" >/dev/null || skip "$program is not installed"; done
}

[[ -n $lib && -f $lib ]] || skip "there is no library to preload (SEEMALLOC_LIB)"

work=$(mktemp -d "${TMPDIR:-/tmp}/seemalloc-programs.XXXXXX")
clean_up() { rm -rf "$work"; }
trap clean_up EXIT
cd "$work"

limit=${LIMIT:-100} # seconds for one run of one program

# plain COMMAND…: on the system's malloc. ours COMMAND…: on our library, with statistics at exit. Nothing but the program itself is preloaded.
plain() { timeout -k 5 "$limit" "$@"; }
# BINDINGS=FOLDER: ld.so notes there, a file per process, which library each name was found in; for programs that close stderr before they end.
ours() {
    local ld_debug=()
    [[ -z ${BINDINGS:-} ]] || ld_debug=(LD_DEBUG=bindings LD_DEBUG_OUTPUT="$BINDINGS/process")
    timeout -k 5 "$limit" env LD_PRELOAD="$lib" SEEMALLOC_STATS=1 "${ld_debug[@]}" "$@"
}

# proved FILE [N]: FILE (what came on stderr) has the exit statistics of at least N processes, or the word of N of our own programs; or a folder
# of ld.so's notes shows that N processes found malloc in our library.
proved() {
    local file=$1 wanted=${2:-1} found
    [[ ${PROVE:-yes} == no ]] && return
    if [[ -d $file ]]; then
        found=$(grep -lrE "binding file .* to $lib .*: normal symbol .malloc'" "$file" | wc -l)
    else
        found=$(grep -cE '^(--- seemalloc .*\(process [0-9]+\) ---|allocator: seemalloc)$' "$file" || true)
    fi
    if ((found < wanted)); then
        [[ -d $file ]] || sed 's/^/    /' "$file" | head -n 20 >&2
        die "no proof that the library was active: $found of $wanted reports"
    fi
}

# same NAME N COMMAND…: runs the command both ways in a fresh folder each, compares output, exit status and the files left in the folder, and
# wants proof from N processes. The folder of the run is the current one; input lies in $work.
same() {
    local name=$1 wanted=$2 way status_plain=0 status_ours=0
    shift 2
    for way in plain ours; do
        mkdir -p "$work/$name.$way"
        cd "$work/$name.$way"
        if [[ $way == plain ]]; then
            plain "$@" >"$work/$name.plain.out" 2>"$work/$name.plain.err" </dev/null || status_plain=$?
        else
            ours "$@" >"$work/$name.ours.out" 2>"$work/$name.ours.err" </dev/null || status_ours=$?
        fi
        cd "$work"
    done
    if ((status_plain)); then
        head -n 20 "$work/$name.plain.err" >&2
        die "$name: exit status $status_plain on the system's malloc"
    fi
    if ((status_ours)); then
        grep -v '^ \|^---' "$work/$name.ours.err" | head -n 20 >&2 || true
        die "$name: exit status $status_ours on our library, 0 on the system's malloc"
    fi
    cmp "$work/$name.plain.out" "$work/$name.ours.out" || die "$name: the output differs"
    [[ -s $work/$name.plain.out || -n $(ls -A "$work/$name.plain") ]] || die "$name: there is nothing to compare"
    diff -rq "$work/$name.plain" "$work/$name.ours" || die "$name: the files differ"
    proved "${BINDINGS:-$work/$name.ours.err}" "$wanted"
    [[ -z ${BINDINGS:-} ]] || find "$BINDINGS" -type f -delete
    echo "$name: same ($(wc -c <"$work/$name.plain.out") bytes of output, $(find "$work/$name.plain" -type f | wc -l) files)"
}
