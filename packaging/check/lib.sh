#!/bin/bash
# What the demo and the checks share: a small world of our own programs on this machine's
# loopback, with an emulated OneDrive behind it. To be sourced.
#
# The world lives in $work. Whoever sources this calls `make_work` first and sets a trap on
# `end_world`, which ends the processes that were started here and unmounts what they mounted.

# shellcheck disable=SC2034 # used by those who source this
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export LC_ALL=C.UTF-8

# Everything here happens on one machine: far above what a busy one needs, so that only what never
# happens fails.
deadline=60

work=
children=()
mounted_at=()

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Something that this machine lacks. Under CI it has to be there.
skip() {
    [ -z "${CI:-}" ] || die "$*, and CI skips nothing"
    echo "skipped: $*"
    exit 77
}

needs_root_and_fuse() {
    [ "$(id -u)" = 0 ] || skip "$1 needs root"
    [ -e /dev/fuse ] || skip "$1 needs /dev/fuse (modprobe fuse)"
}

needs_programs() {
    local what=$1 program
    shift
    for program in "$@"; do
        command -v "$program" >/dev/null || skip "$what needs $program (make deps)"
    done
}

# Where the programs are; built before, unless $PROGRAMS_DIR says that they are there.
find_programs() {
    if [ -z "${PROGRAMS_DIR:-}" ]; then
        (cd "$top" && cargo build --locked --workspace --bins) || die "the programs do not build"
        PROGRAMS_DIR=$("$top/packaging/check/target-dir.sh")/debug
        export PROGRAMS_DIR
    fi
    local program
    for program in tuyunfs tuyun-edge tuyun-jump graph-emulator; do
        [ -x "$PROGRAMS_DIR/$program" ] || die "$PROGRAMS_DIR/$program is not there"
    done
}

make_work() {
    work=$(mktemp -d "${TMPDIR:-/tmp}/tuyun-XXXXXX") || die "no temporary directory"
    # Others look through it into the mount.
    chmod 0711 "$work"
    mkdir "$work/log"
    # Nothing of this machine's settings, and no proxy between neighbours.
    unset "${!TUYUN@}" NOTIFY_SOCKET
    unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
}

# until_ok <what> <command…>: waits until the command succeeds.
until_ok() {
    local what=$1 end=$((SECONDS + deadline))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || die "waited $deadline s in vain until $what
$(tail -n 30 "$work"/log/*.log 2>/dev/null)"
        sleep 0.1
    done
}

# A port of the loopback that nobody answers at; the wished one, if it is free.
free_port() {
    local port=${1:-0}
    while [ "$port" = 0 ] || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        # Below the range from which the kernel takes ports for outgoing connections.
        port=$((20000 + RANDOM % 12000))
    done
    echo "$port"
}

# start <name> <command…>: in the background, what it says goes to $work/log/<name>.log. Its
# process is $started.
start() {
    local name=$1
    shift
    # A session of its own, so that Ctrl-C reaches only us, and we end them in order.
    setsid "$@" >>"$work/log/$name.log" 2>&1 &
    started=$!
    children+=("$started")
}

alive() {
    kill -0 "$1" 2>/dev/null
}

# ready <name> <process> <url>: waits until a daemon answers there with 200.
ready() {
    local name=$1 process=$2 url=$3 end=$((SECONDS + deadline))
    until curl -fsS --max-time 5 "$url" >/dev/null 2>&1; do
        alive "$process" || die "$name ended:
$(tail -n 30 "$work/log/$name.log")"
        [ "$SECONDS" -lt "$end" ] || die "$name is not ready:
$(curl -sS --max-time 5 "$url" 2>&1)
$(tail -n 30 "$work/log/$name.log")"
        sleep 0.1
    done
}

# end_process <process>: asks it to end, and gives its exit status; one that does not end is killed,
# so that whoever waits for us is told, and does not wait for ever.
end_process() {
    local end=$((SECONDS + deadline))
    kill -TERM "$1" 2>/dev/null
    while alive "$1"; do
        if [ "$SECONDS" -ge "$end" ]; then
            echo "${0##*/}: killed after $deadline s: $(ps -o args= -p "$1" 2>/dev/null)" >&2
            kill -KILL "$1" 2>/dev/null
            break
        fi
        sleep 0.1
    done
    wait "$1" 2>/dev/null
}

# stop <process>: ends one of the children, and gives its exit status.
stop() {
    local process=$1 child rest=()
    end_process "$process"
    local status=$?
    for child in "${children[@]}"; do
        [ "$child" = "$process" ] || rest+=("$child")
    done
    children=("${rest[@]}")
    return "$status"
}

# The text of a field of a flat JSON object.
field() {
    sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p"
}

# Starts an emulated OneDrive. Sets login_url, graph_url, cloud_control and cloud (its process).
start_cloud() {
    setsid "$PROGRAMS_DIR/graph-emulator" --auto-approve "$@" \
        >"$work/cloud.json" 2>"$work/log/graph-emulator.log" &
    cloud=$!
    children+=("$cloud")
    until_ok "the emulator says where it is" test -s "$work/cloud.json"
    login_url=$(field login <"$work/cloud.json")
    graph_url=$(field graph <"$work/cloud.json")
    cloud_control=$(field control <"$work/cloud.json")
}

# A file of the emulated drive, as another client sees it.
cloud_file() {
    curl -fsS --max-time 30 --get --data-urlencode "path=$1" "$cloud_control/file"
}

cloud_has() {
    cloud_file "$1" 2>/dev/null | cmp -s - "$2"
}

# The application that signs in; the emulator knows any.
client_id=00000000-aaaa-bbbb-cccc-000000000001

# write_tuyunfs_settings <file> <state directory> <mount point or nothing> <lines for the end…>
# Sets origin_url and metrics_url.
write_tuyunfs_settings() {
    local file=$1 state=$2 point=$3 origin metrics
    origin=$(free_port "${origin_port:-0}")
    metrics=$(free_port)
    origin_url=http://127.0.0.1:$origin
    metrics_url=http://127.0.0.1:$metrics
    cat >"$file" <<SETTINGS
state_dir = "$state"
[drive]
login_url = "$login_url"
graph_url = "$graph_url"
client_id = "$client_id"
poll = "2s"
[mount]
point = "$point"
[cache]
min_free = "16MiB"
[writeback]
grace = "30s"
[origin]
listen = "127.0.0.1:$origin"
[control]
socket = "$state/control.sock"
metrics = "127.0.0.1:$metrics"
SETTINGS
    [ -z "$point" ] || mounted_at+=("$point")
}

# Signs tuyunfs in, as somebody does who comes from rclone.
sign_in() {
    local config=$1
    curl -fsS --max-time 30 -H 'Content-Type: application/json' \
        -d "{\"client_id\":\"$client_id\"}" "$cloud_control/token" >"$work/token.json" ||
        die "the emulator gives no token"
    "$PROGRAMS_DIR/tuyunfs" login --config "$config" --rclone "$work/token.json" \
        >"$work/log/login.log" 2>&1 || die "signing in failed:
$(cat "$work/log/login.log")"
    rm "$work/token.json"
}

# Ends what was started here, latest first, and unmounts what stayed behind.
end_world() {
    local status=$? n point
    trap '' INT TERM
    for ((n = ${#children[@]} - 1; n >= 0; n--)); do
        end_process "${children[n]}"
    done
    for point in "${mounted_at[@]}"; do
        while mountpoint -q "$point" 2>/dev/null || is_dead "$point"; do
            umount -l "$point" 2>/dev/null || break
        done
    done
    [ -z "$work" ] || rm -rf --one-file-system "$work"
    return "$status"
}

# A mount whose daemon is gone answers every call with ENOTCONN.
is_dead() {
    LC_ALL=C stat "$1" 2>&1 | grep -q 'endpoint is not connected'
}

is_mounted() {
    findmnt --noheadings --types fuse.tuyunfs --mountpoint "$1" >/dev/null
}
