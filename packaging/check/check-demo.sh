#!/usr/bin/env bash
# The demo starts, gives its picture back through jump and edge, and leaves nothing behind.
set -euo pipefail
"$(dirname "$0")/../demo/run.sh" --check
