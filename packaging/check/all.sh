#!/bin/bash
# All that `make test` runs, one phase after the other. Goes on after a failure, so that one run
# shows all of them, and ends with a table. Green only if every phase passed.
#
# A phase that ends with 77 was skipped: it needs something that this machine lacks. Where CI is
# set that is a failure.
set -u -o pipefail
# shellcheck source=packaging/check/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$top" || exit 1

table=()
failed=0
phase_skipped=0

# phase <what> <command…>
phase() {
    local what=$1 started=$SECONDS result status
    shift
    printf '\n==> %s\n' "$what"
    "$@"
    status=$?
    case $status in
    0) result=passed ;;
    77)
        result=skipped
        phase_skipped=$((phase_skipped + 1))
        ;;
    *)
        result=FAILED
        failed=$((failed + 1))
        ;;
    esac
    table+=("$(printf '%-8s %5d s  %s' "$result" $((SECONDS - started)) "$what")")
    return "$status"
}

finish() {
    printf '\n'
    printf '%s\n' "${table[@]}"
    if [ "$failed" != 0 ]; then
        echo "$failed failed"
        exit 1
    fi
    [ "$phase_skipped" = 0 ] || echo "$phase_skipped skipped on this machine; .ci/run skips nothing"
    exit 0
}

# Nothing here takes half of this; past it something hangs. nextest ends single tests before.
limit=30m

tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        timeout --foreground "$limit" cargo nextest run --workspace --locked --no-fail-fast
    else
        timeout --foreground "$limit" cargo test --workspace --all-targets --locked --no-fail-fast
    fi
}

peers() {
    (needs_root_and_fuse "other clients' view of the emulator") || return
    EMULATOR_BIN=$PROGRAMS_DIR/graph-emulator tests/emulator/peers.sh
}

phase "format" cargo fmt --all --check
phase "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
phase "lints of the schedules" cargo clippy --package tuyunfs --all-targets --features schedules \
    --locked -- -D warnings
# The tests start the programs by their path, so these have to be there before.
phase "build" cargo build --workspace --all-targets --locked || finish
PROGRAMS_DIR=$(packaging/check/target-dir.sh)/debug
export PROGRAMS_DIR
tools=$(packaging/check/tools.sh)
phase "programs that test filesystems" test -n "$tools"
PATH=$tools:$PATH
phase "tests" tests
# Built apart: with this feature threads take turns, and nothing but these tests can run.
phase "schedules" timeout --foreground "$limit" cargo test --package tuyunfs --lib \
    --features schedules --locked g8_
phase "examples in the documentation" cargo test --workspace --doc --locked
phase "the emulator, judged by other clients" peers
phase "systemd units" packaging/check/units.sh
phase "Supervisor" packaging/check/supervisor.sh
phase "mount helper" packaging/check/helper.sh
phase "demo" packaging/demo/run.sh --check
finish
