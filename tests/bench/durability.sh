#!/bin/bash
# What the promise of a close costs: files of 100 KB, created, written and closed in the mounted folder,
# beside the same on a plain folder of the same disk, an ext4 of its own. With `durability = "close"` the plain files are
# fsynced, with "fsync" they are not: both sides promise the same.
#
#   durability.sh [rounds] [files]     default: 5 400
#
# Each round does both sides in turn, so that what else the machine does hits both; the median of
# the rounds' ratios counts. Prints a table for docs/benchmarks.md. Needs root and /dev/fuse.
set -u -o pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

rounds=${1:-5}
files=${2:-400}
# What an image host's pictures are like after its thumbnailer.
bytes=100000

needs_root_and_fuse "measuring writes"
needs_programs "measuring writes" awk sort mkfs.ext4

build_release
make_work
trap end_disk EXIT
make_disk

# measure <durability> <writers> <round>: microseconds a file, plain and mounted.
measure() {
    local durability=$1 writers=$2 round=$3 plain mounted fsync=()
    [ "$durability" = fsync ] || fsync=(--fsync)
    local beside=$disk/plain/$durability-$writers-$round inside=$point/$durability-$writers-$round
    mkdir "$beside" "$inside" || die "no folders to write into"
    plain=$("$PROGRAMS_DIR/file-load" write "$beside" "$files" "$writers" "$bytes" "${fsync[@]}") ||
        die "plain writes fail"
    mounted=$("$PROGRAMS_DIR/file-load" write "$inside" "$files" "$writers" "$bytes") ||
        die "writes into the folder fail"
    echo "$plain $mounted"
}

mkdir "$disk/plain"
start_cloud
echo "| durability | writers | plain, µs a file | mounted, µs a file | plain ÷ mounted |"
echo "|---|---|---|---|---|"
for durability in close fsync; do
    point=$work/$durability
    mkdir "$point"
    write_tuyunfs_settings "$work/$durability.toml" "$disk/state-$durability" "$point"
    # Uploads would take part of the processor: what is measured is what a program waits for.
    sed -i "s/^\[writeback\]/&\ndurability = \"$durability\"\nsettle = \"1h\"/;
        s/^grace = .*/grace = \"1s\"/" "$work/$durability.toml"
    sign_in "$work/$durability.toml"
    start tuyunfs "$PROGRAMS_DIR/tuyunfs" mount --config "$work/$durability.toml"
    mounted=$started
    ready tuyunfs "$mounted" "$metrics_url/readyz"
    for writers in 1 8; do
        measure "$durability" "$writers" warm-up >"$work/none"
        for round in $(seq "$rounds"); do
            measure "$durability" "$writers" "$round"
        done >"$work/figures"
        printf '| %s | %s | %s | %s | %s |\n' "$durability" "$writers" \
            "$(awk '{ print $1 }' "$work/figures" | median)" \
            "$(awk '{ print $2 }' "$work/figures" | median)" \
            "$(awk '{ printf "%.2f\n", $1 / $2 }' "$work/figures" | median)"
    done
    stop "$mounted" || die "tuyunfs ended badly"
done
