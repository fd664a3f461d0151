#!/bin/bash
# Prints where cargo builds this workspace. `sudo make install` may run without cargo on its path:
# then it is where cargo builds unless somebody configured another place.
set -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
told=$(cargo metadata --format-version 1 --no-deps --offline 2>/dev/null |
    sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
echo "${told:-${CARGO_TARGET_DIR:-$PWD/target}}"
