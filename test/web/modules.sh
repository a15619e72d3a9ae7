# modules.sh: sourced by the tests that need node: puts the page's sources, and the modules that its lock file names, into $PAGE.
# SPDX-License-Identifier: MIT
# Skips the test (77) where that can't be: without node and npm, or without a registry or a filled cache of npm.
set -euo pipefail

skip() {
    echo "skipped: $*"
    exit 77
}

command -v node >/dev/null || skip "node is missing (Debian package nodejs)"
command -v npm >/dev/null || skip "npm is missing (Debian package npm)"
(($(node -p 'parseInt(process.versions.node)') >= 18)) || skip "node $(node --version) is too old: 18 is needed"

export PAGE=$BUILD_DIR/web
mkdir -p "$PAGE"
exec 9>"$PAGE/lock"
flock 9 # tests run side by side
cp "$SOURCE_DIR"/web/*.js "$SOURCE_DIR"/web/*.mjs "$SOURCE_DIR"/web/*.css "$SOURCE_DIR"/web/{page,recording}.html "$SOURCE_DIR"/web/package*.json "$SOURCE_DIR/web/.npmrc" "$PAGE"
if ! cmp -s "$PAGE/package-lock.json" "$PAGE/installed"; then
    (cd "$PAGE" && timeout 100 npm ci --ignore-scripts --prefer-offline --no-progress) >"$PAGE/npm.log" 2>&1 ||
        skip "npm ci failed: $(grep -m 1 'npm error' "$PAGE/npm.log" || tail -n 1 "$PAGE/npm.log")"
    cp "$PAGE/package-lock.json" "$PAGE/installed"
fi
exec 9>&-
