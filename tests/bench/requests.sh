#!/bin/bash
# What each action of a program in the folder costs the drive, in requests: tuyunfs beside
# `rclone mount` with the flags that people use today, on one emulated drive in one run.
#
#   requests.sh [profile…]      default: business personal-migrated
#
# Both reach the emulator under the service's own host names, in namespaces of their own. Prints a
# table for docs/benchmarks.md. Needs root, /dev/fuse and rclone.
set -u -o pipefail
# shellcheck source=tests/bench/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "${1:-}" != --inside ]; then
    needs_root_and_fuse "counting requests"
    needs_programs "counting requests" rclone curl jq unshare ip
    find_programs
    [ $# -gt 0 ] || set -- business personal-migrated
    exec unshare --mount --net --pid --fork --mount-proc --propagation private \
        "${BASH_SOURCE[0]}" --inside "$@"
fi
shift

# Files that an action is done to; what is told is the mean, which is a whole number unless
# something comes in between.
files=20
# Known files at a restart: folders × files in each.
known_folders=500
known_files=200
# Nobody waits longer than this before he sends: rclone waits five seconds after a close.
quiet_for=7

make_work
trap end_world EXIT
enter_world

# Waits until nobody has asked the drive anything for a while.
quiet() {
    local last=-1 now since=$SECONDS
    while [ $((SECONDS - since)) -lt "$quiet_for" ]; do
        now=$(control "$cloud_control/counts" | jq .total)
        [ "$now" = "$last" ] || since=$SECONDS
        last=$now
        sleep 0.2
    done
}

# counted <action> <number of times> <command…>: requests for each time, and which.
counted() {
    local action=$1 times=$2 routes
    shift 2
    quiet
    control -X DELETE "$cloud_control/requests" >"$work/none"
    "$@" || die "$client: $action failed"
    quiet
    routes=$(control "$cloud_control/counts" | jq -r --argjson times "$times" '
        .routes | del(.token) | to_entries | map(select(.value > 0)) |
        "\(map(.value) | add // 0 | . / $times * 100 | round / 100)\t\(
            map("\(.key) \(.value / $times * 100 | round / 100)") | join(", "))"')
    printf '%s\t%s\t%s\n' "$client" "$action" "$routes" >>"$work/results"
}

each() {
    local n
    for n in $(seq "$files"); do
        "$@" "$n" || return 1
    done
}

write_new() { head -c 100000 /dev/urandom >"$point/$client/new/$1.jpg"; }
read_known() { cat "$point/$client/known/$1.jpg" >"$work/none"; }
read_cold() { cat "$point/$client/cold/$1.jpg" >"$work/none"; }
rename_it() { mv "$point/$client/new/$1.jpg" "$point/$client/new/renamed $1.jpg"; }
delete_it() { rm "$point/$client/new/renamed $1.jpg"; }
part_of_large() { dd if="$point/$client/large/$2.bin" bs=4096 count=1 skip="$1" of="$work/none" 2>>"$work/log/dd"; }
walk() { [ "$(find "$point/many" -type f | wc -l)" = $((known_folders * known_files)) ]; }
again_and_walk() { "start_$client" && walk; }
# Stale addresses: the first part was read with them, the next one is asked for after their end.
expire_addresses() {
    control -H 'Content-Type: application/json' -d '{"what":"download_urls"}' \
        "$cloud_control/expire" >"$work/none"
}

measure() {
    client=$1
    point=$work/$client
    mkdir -p "$point"
    put "$client/cold/[1-$files].jpg" 100000
    put "$client/known/[1-$files].jpg" 100000
    put "$client/large/[1-$files].bin" 12000000
    put "$client/new/0.jpg" 10
    if [ "$client" = tuyunfs ]; then
        prepare_tuyunfs "$point"
    fi
    "start_$client"
    ls -lR "$point/$client" >"$work/none" || die "$client does not list"
    counted "cold read of a small file" "$files" each read_cold
    each part_of_large 0 || die "$client does not read a part"
    quiet
    counted "read of a part of a large file" "$files" each part_of_large 1500
    quiet
    expire_addresses
    counted "the same when its address is refused" "$files" each part_of_large 2800
    stop "$mounted"
    until_ok "$client is unmounted" is_free
    "start_$client"
    ls -lR "$point/$client" >"$work/none" || die "$client does not list"
    counted "cold read of a small file whose address is not known or too old" "$files" each read_known
    counted "new small file" "$files" each write_new
    counted "overwrite" "$files" each write_new
    counted "rename" "$files" each rename_it
    counted "delete" "$files" each delete_it
    counted "first walk over 100,000 files" 1 walk
    stop "$mounted"
    until_ok "$client is unmounted" is_free
    counted "restart, and the same walk" 1 again_and_walk
    stop "$mounted"
    until_ok "$client is unmounted" is_free
}

echo "Requests an action, the sign-in left out; in brackets, which."
for profile in "$@"; do
    start_drive "$profile"
    put "many/[1-$known_folders]/[1-$known_files].jpg" 10
    measure tuyunfs
    measure rclone
    stop "$cloud"
    printf '\n**%s**\n\n| action | tuyunfs | %s |\n|---|---|---|\n' "$profile" \
        "$(rclone version | sed -n '1s/ v/ /p')"
    awk -F'\t' '
        { cell[$1, $2] = $3 " (" $4 ")" }
        $1 == "tuyunfs" { order[++rows] = $2 }
        END {
            for (n = 1; n <= rows; n++)
                printf "| %s | %s | %s |\n", order[n], cell["tuyunfs", order[n]], cell["rclone", order[n]]
        }' "$work/results"
done
