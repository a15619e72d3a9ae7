#!/bin/bash
# SPDX-License-Identifier: MIT
# Installs into a temporary folder, moves that folder, and uses it as a user would: by pkg-config and by find_package, shared and static, and by
# the command. The programs fail unless their malloc is the installed one.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
    echo "install test: $*" >&2
    exit 1
}

cmake --install "$BUILD_DIR" --prefix "$work/first" >"$work/log" || fail "install failed: $(cat "$work/log")"
mv "$work/first" "$work/root"
root=$work/root
version=$(sed -n 's/^#define SEEMALLOC_VERSION_[A-Z]* //p' "$SOURCE_DIR/include/seemalloc.h" | paste -sd.)

for file in include/seemalloc.h bin/seemalloc share/man/man1/seemalloc.1 share/man/man3/seemalloc.3; do
    [[ -s $root/$file ]] || fail "$file is missing"
done
libdir=$(dirname "$(find "$root" -name libseemalloc.a)")
[[ -e $libdir/libseemalloc.so.1.0.0 && -L $libdir/libseemalloc.so.1 && -L $libdir/libseemalloc.so ]] || fail "the shared library is incomplete in $libdir"
grep -q 'soname: \[libseemalloc.so.1\]' < <(readelf -d "$libdir/libseemalloc.so") || fail "wrong soname"
if grep -rlF -e "$SOURCE_DIR" -e "$BUILD_DIR" "$libdir/pkgconfig" "$libdir/cmake"; then
    fail "the package files above name the folder it was built in"
fi

# check PROGRAM NEEDED: prints the version, and depends on our shared library (1) or does not (0).
check() {
    local said
    said=$("$1") || fail "$1 exits with $?"
    [[ $said == "$version" ]] || fail "$1 says $said, not $version"
    [[ $(readelf -d "$1" | grep -c 'NEEDED.*libseemalloc.so.1') == "$2" ]] || fail "$1 is linked the wrong way"
}

export PKG_CONFIG_PATH=$libdir/pkgconfig
user=$SOURCE_DIR/test/install/user.c
[[ $(pkg-config --modversion seemalloc) == "$version" ]] || fail "pkg-config has another version"
read -ra flags < <(pkg-config --cflags --libs seemalloc)
"$CC" "$user" -o "$work/by-pkg" "${flags[@]}"
LD_LIBRARY_PATH=$libdir check "$work/by-pkg" 1
read -ra flags < <(pkg-config --static --cflags --libs seemalloc)
"$CC" -static "$user" -o "$work/by-pkg-static" "${flags[@]}"
check "$work/by-pkg-static" 0

mkdir "$work/user"
cp "$user" "$work/user/user.c"
cat >"$work/user/CMakeLists.txt" <<'EOF'
cmake_minimum_required(VERSION 3.21)
project(user LANGUAGES C)
find_package(seemalloc 0.1 REQUIRED)
add_executable(shared user.c)
target_link_libraries(shared PRIVATE seemalloc::seemalloc)
add_executable(archive user.c)
target_link_libraries(archive PRIVATE seemalloc::static)
EOF
{
    cmake -S "$work/user" -B "$work/user/build" -DCMAKE_C_COMPILER="$CC" -DCMAKE_PREFIX_PATH="$root"
    cmake --build "$work/user/build"
} >"$work/log" 2>&1 || fail "find_package: $(cat "$work/log")"
check "$work/user/build/shared" 1
check "$work/user/build/archive" 0

# The command finds the library that was installed with it.
said=$("$root/bin/seemalloc" run -- sh -c 'grep -o "[^ ]*libseemalloc[^ ]*" /proc/self/maps | sort -u') || fail "seemalloc run exits with $?"
[[ $said == "$libdir"/libseemalloc.so* ]] || fail "seemalloc run loads \"$said\", not the library in $libdir"
[[ $("$root/bin/seemalloc" --version) == *"$version"* ]] || fail "seemalloc --version does not say $version"
echo "installed, moved and used: $version"
