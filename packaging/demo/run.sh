#!/bin/bash
# The whole way on one machine: an emulated OneDrive, tuyunfs mounted at ./demo/mnt, its origin,
# one edge and jump, all on the loopback. No account, nothing installed. Ends with Ctrl-C and leaves
# nothing behind.
#
#   run.sh           runs until Ctrl-C
#   run.sh --check   fetches the sample picture all the way, ends, and looks that nothing is left
set -u -o pipefail
# shellcheck source=packaging/check/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../check/lib.sh"

check=
case ${1:-} in
'') ;;
--check) check=yes ;;
*) die "usage: run.sh [--check]" ;;
esac

sample=$top/packaging/demo/sample.png
picture=pic/sample.png
demo=$top/demo

# Where the folder is mounted; empty: it is not, and why not.
choose_point() {
    point=
    unmounted=
    if [ "$(id -u)" != 0 ]; then
        unmounted="this is not root"
    elif [ ! -e /dev/fuse ]; then
        unmounted="there is no /dev/fuse here"
    fi
    if [ -n "$unmounted" ]; then
        [ -z "$check" ] || [ -z "${CI:-}" ] || die "$unmounted, and CI skips nothing"
        return
    fi
    # The check must not meet a demo that somebody watches.
    point=${check:+$work/mnt}
    point=${point:-$demo/mnt}
    ! mountpoint -q "$point" || die "$point is mounted already: does another demo run?"
    mkdir -p "$point" || die "cannot make $point"
}

# Ports of the manual where they are free, so that the addresses look familiar.
choose_ports() {
    if [ -n "$check" ]; then
        origin_port=$(free_port)
        edge_port=$(free_port)
        jump_port=$(free_port)
    else
        origin_port=$(free_port 7200)
        edge_port=$(free_port 45678)
        jump_port=$(free_port 56789)
    fi
    edge_control=$(free_port)
    jump_control=$(free_port)
    edge_url=http://127.0.0.1:$edge_port
    jump_url=http://127.0.0.1:$jump_port
}

start_drive() {
    start_cloud
    write_tuyunfs_settings "$work/tuyunfs.toml" "$work/state" "$point"
    sign_in "$work/tuyunfs.toml"
    if [ -n "$point" ]; then
        start tuyunfs "$PROGRAMS_DIR/tuyunfs" mount --config "$work/tuyunfs.toml"
    else
        start tuyunfs "$PROGRAMS_DIR/tuyunfs" mount --origin-only --config "$work/tuyunfs.toml"
    fi
    ready tuyunfs "$started" "$metrics_url/readyz"
}

start_fleet() {
    local token=$work/node-token
    (umask 077 && head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n' >"$token")
    cat >"$work/jump.toml" <<SETTINGS
listen = "127.0.0.1:$jump_port"
origin = "$origin_url/"
[nodes]
token_file = "$token"
allow_private = true
[control]
listen = "127.0.0.1:$jump_control"
SETTINGS
    cat >"$work/edge.toml" <<SETTINGS
listen = "127.0.0.1:$edge_port"
server_id = "1"
url = "$edge_url/"
[origin]
primary = "$origin_url/"
[cache]
dir = "$work/edge"
[jump]
urls = ["$jump_url/"]
token_file = "$token"
interval = "1s"
[control]
listen = "127.0.0.1:$edge_control"
SETTINGS
    start tuyun-jump "$PROGRAMS_DIR/tuyun-jump" serve --config "$work/jump.toml"
    ready tuyun-jump "$started" "http://127.0.0.1:$jump_control/readyz"
    start tuyun-edge "$PROGRAMS_DIR/tuyun-edge" serve --config "$work/edge.toml"
    ready tuyun-edge "$started" "http://127.0.0.1:$edge_control/readyz"
    until_ok "jump sends visitors to the edge" sent_to_edge
}

sent_to_edge() {
    [ "$(curl -fsS --max-time 5 -o "$work/none" -w '%{redirect_url}' "$jump_url/mount/$picture")" = \
        "$edge_url/mount/$picture" ]
}

put_sample() {
    if [ -n "$point" ]; then
        mkdir "$point/pic" && cp "$sample" "$point/$picture" || die "cannot write to $point"
        return
    fi
    # Without the mount another client has to put it on the drive.
    curl -fsS --max-time 30 -X PUT --data-binary "@$sample" -o "$work/none" \
        "$cloud_control/file?path=share/mount/$picture" ||
        die "the emulator does not take the sample"
    until_ok "the origin has the sample" \
        curl -fsS --max-time 30 -o "$work/none" "$origin_url/mount/$picture"
}

# The picture as a visitor gets it, and again from the edge's cache.
fetch() {
    curl -fsSL --max-time 30 -o "$work/fetched" "$jump_url/mount/$picture" ||
        die "the sample does not come back"
    cmp "$work/fetched" "$sample" || die "other bytes came back"
    until_ok "the edge serves it from its cache" from_cache
    until_ok "the drive has it" cloud_has "share/mount/$picture" "$sample"
}

from_cache() {
    curl -fsSL --max-time 30 -D "$work/head" -o "$work/fetched" "$jump_url/mount/$picture" &&
        cmp -s "$work/fetched" "$sample" && grep -qi '^x-cache: hit' "$work/head"
}

show() {
    echo
    if [ -n "$point" ]; then
        echo "folder   $point/    put pictures into it"
    else
        echo "folder   not mounted: $unmounted. The origin serves the drive without it."
    fi
    cat <<TEXT
origin   $origin_url/mount/
edge     $edge_url/    its status page
jump     $jump_url/    its status page
drive    emulated; what it holds: $cloud_control/tree

  curl -L -o sample.png $jump_url/mount/$picture
  $PROGRAMS_DIR/tuyunfs status --config $work/tuyunfs.toml

Logs are in $work/log. Ctrl-C ends it all.
TEXT
}

# Ends everything in order and looks that nothing stays behind.
leave() {
    local all=("${children[@]}") n status
    for ((n = ${#all[@]} - 1; n >= 0; n--)); do
        stop "${all[n]}"
        status=$?
        [ "$status" = 0 ] || die "a program ended with $status:
$(tail -n 20 "$work"/log/*.log)"
    done
    [ -z "$point" ] || ! mountpoint -q "$point" || die "$point is still mounted"
    [ -z "$point" ] || [ -z "$(ls -A "$point")" ] || die "$point is not empty"
}

finish() {
    end_world
    # Only what the demo made: both stay where something else is in them.
    [ -n "$check" ] || rmdir "$demo/mnt" "$demo" 2>/dev/null
}

find_programs
trap finish EXIT
make_work
choose_point
choose_ports
start_drive
start_fleet
put_sample
fetch
if [ -n "$check" ]; then
    leave
    echo "ok      the sample came back through jump, edge and origin; nothing is left"
    exit 0
fi
show
trap 'echo; echo "ending"; exit 0' INT TERM
# Until Ctrl-C, or until a program ends by itself.
wait -n "${children[@]}"
die "a program ended by itself:
$(tail -n 20 "$work"/log/*.log)"
