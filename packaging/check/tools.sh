#!/bin/bash
# Programs of others that test filesystems, which no distribution has: built once, beside what cargo builds here.
# Prints the folder that they are in.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

# The version is part of what a run with a seed does.
fsx=0.3.2

tools=$(packaging/check/target-dir.sh)/tools
"$tools/bin/fsx" --version 2>/dev/null | grep -qxF "fsx $fsx" ||
    cargo install --locked --quiet --root "$tools" --target-dir "$tools/build" "fsx@$fsx" >&2 || exit 1
echo "$tools/bin"
