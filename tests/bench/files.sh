#!/bin/bash
# What the mounted folder costs beside a plain folder of the same disk, and beside `rclone mount` with the
# flags that people use today: the same work, one after the other, in each round.
#
#   files.sh [rounds]      default: 5
#
# Everything is on this machine: of tuyunfs and rclone, uploads are held back. The median of each is told, and
# the median of the rounds' ratios. Prints a table for docs/benchmarks.md. Needs root, /dev/fuse and rclone.
set -u -o pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "${1:-}" != --inside ]; then
    needs_root_and_fuse "measuring the folder"
    needs_programs "measuring the folder" rclone curl jq awk sort unshare ip mkfs.ext4
    build_release
    exec unshare --mount --net --pid --fork --mount-proc --propagation private \
        "${BASH_SOURCE[0]}" --inside "$@"
fi
shift
rounds=${1:-5}

# A picture of an image host after its thumbnailer, and how many of them: enough for a second of work.
bytes=100000
files=500
# A folder that is large, and usual.
many=10000
# A file that is streamed, in MiB.
stream=256

make_work
trap end_disk EXIT
enter_world
make_disk

declare -A at process
subjects=(native tuyunfs rclone)

# once <work> <subject> <what> <folder> <count> <clients> <bytes> [--fsync]: one figure.
once() {
    local work_name=$1 subject=$2 what=$3 folder=${at[$2]}/$4 figure
    shift 4
    figure=$("$PROGRAMS_DIR/file-load" "$what" "$folder" "$@") || die "$subject: $work_name failed"
    printf '%s\t%s\t%s\n' "$work_name" "$subject" "$figure" >>"$work/figures"
}

# all <work> <what> <folder> <count> <clients> <bytes>: every subject in turn.
all() {
    local subject
    for subject in "${subjects[@]}"; do
        once "$1" "$subject" "${@:2}"
    done
}

make_folders() {
    local subject
    for subject in "${subjects[@]}"; do
        mkdir -p "${at[$subject]}/$1" || die "no folder in ${at[$subject]}"
    done
}

# Names and attributes leave the kernel's memory, contents stay.
forget_names() { echo 2 >/proc/sys/vm/drop_caches; }

# table <what a figure is>: all works in the order of their first figure.
table() {
    printf '| work, %s | %s | native ÷ tuyunfs | rclone ÷ tuyunfs |\n|---|---|---|---|---|---|\n' \
        "$1" "native | tuyunfs | rclone"
    cut -f1 "$work/figures" | awk '!seen[$0]++' | while IFS= read -r name; do
        awk -F'\t' -v name="$name" '$1 == name { n[$2]++; print n[$2] "\t" $2 "\t" $3 }' \
            "$work/figures" >"$work/row"
        printf '| %s | %s | %s | %s | %s | %s |\n' "$name" "$(of native)" "$(of tuyunfs)" "$(of rclone)" \
            "$(faster native)" "$(faster rclone)"
    done
}

of() {
    awk -v subject="$1" '$2 == subject { print $3 }' "$work/row" | median | awk '{ printf "%.4g", $1 }
        END { if (!NR) printf "–" }'
}

# How many times as fast as the other one, round by round.
faster() {
    awk -v other="$1" '$2 == other { theirs[$1] = $3 } $2 == "tuyunfs" { ours[$1] = $3 }
        END { for (n in ours) if (n in theirs) print theirs[n] / ours[n] }' "$work/row" |
        median | awk '$1 { printf "%.2f", $1 } END { if (!NR || !$1) printf "–" }'
}

on_this_machine() {
    local round
    put "many/0-[0-$((many - 1))].jpg" 10
    mkdir -p "${at[native]}/many"
    (cd "${at[native]}/many" && for ((n = 0; n < many; n++)); do echo 123456789 >"0-$n.jpg"; done)
    prepare_tuyunfs "${at[tuyunfs]}" 'durability = "fsync"' 'settle = "1h"' 'grace = "1s"'
    start_tuyunfs
    process[tuyunfs]=$mounted
    point=${at[rclone]}
    start_rclone --vfs-write-back 1h
    process[rclone]=$mounted
    make_folders streams
    for subject in "${subjects[@]}"; do
        "$PROGRAMS_DIR/file-load" list "${at[$subject]}/many" "$many" 1 0 >"$work/none" ||
            die "$subject does not list"
        # Four, for the readers at random.
        "$PROGRAMS_DIR/file-load" stream-write "${at[$subject]}/streams" $((4 * stream)) 4 1048576 \
            >"$work/none" || die "$subject does not write"
    done
    for ((round = 0; round <= rounds; round++)); do
        local of_round=files/$round
        make_folders "$of_round"
        all "create + write + close, 1 client" write "$of_round" "$files" 1 "$bytes"
        all "the first open + read + close of each, 1 client" read "$of_round" "$files" 1 "$bytes"
        all "open + read + close, 1 client" read "$of_round" "$files" 1 "$bytes"
        all "unlink" unlink "$of_round" "$files" 1 0
        all "create + write + close, 4 clients" write "$of_round" "$files" 4 "$bytes"
        all "the first open + read + close of each, 4 clients" read "$of_round" "$files" 4 "$bytes"
        all "open + read + close, 4 clients" read "$of_round" "$files" 4 "$bytes"
        all "stat" stat many "$many" 1 0
        forget_names
        all "stat, names forgotten" stat many "$many" 1 0
        all "list 10,000 with attributes" list many "$many" 1 0
        forget_names
        all "the same, names forgotten" list many "$many" 1 0
        all "write one file of 256 MiB" stream-write streams "$stream" 1 1048576
        all "read it" stream-read streams "$stream" 1 1048576
        all "4 KiB at random, 1 client" random-read streams 20000 1 4096
        all "4 KiB at random, 4 clients" random-read streams 20000 4 4096
        # The first round warms up.
        [ "$round" != 0 ] || : >"$work/figures"
    done
    for subject in tuyunfs rclone; do
        printf '%s: %s MiB RSS\n' "$subject" \
            "$(($(awk '/^VmRSS/ { print $2 }' "/proc/${process[$subject]}/status") / 1024))" >>"$work/rss"
        # With uploads left, rclone says that it failed.
        stop "${process[$subject]}" || [ "$subject" = rclone ] || die "$subject ended badly"
    done
}

for subject in "${subjects[@]}"; do
    at[$subject]=$work/at/$subject
    mkdir -p "${at[$subject]}"
done
at[native]=$disk/native
mkdir "${at[native]}"
start_drive business
on_this_machine
echo "**Everything on this machine**, $rounds rounds, files of $bytes bytes; pages cached."
echo
table "µs a file or block"
echo
cat "$work/rss"
