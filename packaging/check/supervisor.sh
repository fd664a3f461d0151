#!/bin/bash
# Our Supervisor profiles under a real supervisord: the three come up and stay, come back after a
# kill, and stop in order with their folder unmounted.
#
# The profiles are used as they are shipped; only paths are put into a temporary place.
set -u -o pipefail
# shellcheck source=packaging/check/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

needs_root_and_fuse "the Supervisor profile"
needs_programs "the Supervisor profile" supervisord supervisorctl findmnt curl
find_programs
trap end_world EXIT
make_work

write_profiles() {
    mkdir "$work/profiles"
    local profile
    for profile in "$top"/packaging/supervisor/*.conf; do
        sed -e "s|/usr/bin/|$PROGRAMS_DIR/|" -e "s|/etc/tuyun/|$work/etc/|" \
            -e "s|/var/log/|$work/log/|" "$profile" >"$work/profiles/${profile##*/}"
    done
    cat >"$work/supervisord.conf" <<SETTINGS
[unix_http_server]
file = $work/supervisor.sock
[supervisord]
nodaemon = true
user = root
logfile = $work/log/supervisord.log
pidfile = $work/supervisord.pid
childlogdir = $work/log
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl = unix://$work/supervisor.sock
[include]
files = $work/profiles/*.conf
SETTINGS
}

write_settings() {
    mkdir "$work/mnt" "$work/etc"
    write_tuyunfs_settings "$work/etc/tuyunfs.toml" "$work/state" "$work/mnt"
    sign_in "$work/etc/tuyunfs.toml"
    jump=$(free_port)
    edge=$(free_port)
    echo "node-token-for-checks" >"$work/etc/token"
    chmod 0600 "$work/etc/token"
    cat >"$work/etc/jump.toml" <<SETTINGS
listen = "127.0.0.1:$jump"
origin = "$origin_url/"
[nodes]
token_file = "$work/etc/token"
allow_private = true
[control]
listen = "127.0.0.1:$(free_port)"
SETTINGS
    cat >"$work/etc/edge.toml" <<SETTINGS
listen = "127.0.0.1:$edge"
url = "http://127.0.0.1:$edge/"
[origin]
primary = "$origin_url/"
[cache]
dir = "$work/edge"
[jump]
urls = ["http://127.0.0.1:$jump/"]
token_file = "$work/etc/token"
[control]
listen = "127.0.0.1:$(free_port)"
SETTINGS
}

ctl() {
    supervisorctl -c "$work/supervisord.conf" "$@"
}

# The state of one program, or of all: `state RUNNING` is true when every one is.
state() {
    local wanted=$1 shown
    shift
    # Its exit status tells about programs that do not run, not about itself.
    shown=$(ctl status "$@")
    [ -n "$shown" ] && ! grep -qv " $wanted " <<<"$shown"
}

process() {
    ctl pid "$1"
}

replaced() {
    local now
    now=$(process tuyunfs)
    [ "$now" != 0 ] && [ "$now" != "$killed" ]
}

ended_well() {
    grep -q "stopped: $1 (exit status 0)" "$work/log/supervisord.log"
}

all_the_way() {
    curl -fsSL --max-time 10 -o "$work/got" "http://127.0.0.1:$jump/mount/a.bin" &&
        cmp -s "$work/got" "$work/picture"
}

start_cloud
write_settings
write_profiles
head -c 100000 /dev/urandom >"$work/picture"

start supervisord-says supervisord -c "$work/supervisord.conf"
supervisor=$started
until_ok "all three run" state RUNNING
until_ok "the folder is mounted" is_mounted "$work/mnt"
cp "$work/picture" "$work/mnt/a.bin" || die "cannot write into the mount"
until_ok "the picture comes back through jump and edge" all_the_way
echo "ok      the three run, and a picture comes back"

killed=$(process tuyunfs)
kill -KILL "$killed"
until_ok "Supervisor starts it again" replaced
until_ok "the folder is back" cmp "$work/picture" "$work/mnt/a.bin"
until_ok "all three run again" state RUNNING
echo "ok      after a kill the folder is back"

ctl stop all >/dev/null || die "supervisorctl cannot stop them"
until_ok "all three have stopped" state STOPPED
for program in tuyunfs tuyun-edge tuyun-jump; do
    ended_well "$program" || die "$program did not end with 0:
$(cat "$work/log/supervisord.log")"
done
! is_mounted "$work/mnt" || die "the folder is still mounted"
cloud_has share/mount/a.bin "$work/picture" || die "the stop left without sending the picture"
echo "ok      a stop sends what is pending, unmounts, and ends with 0"

# A mistake in the settings is no reason to start over and over again.
echo "oddity = 1" >"$work/odd" && cat "$work/etc/tuyunfs.toml" >>"$work/odd"
mv "$work/odd" "$work/etc/tuyunfs.toml"
sed -i -e 's/^startsecs=.*/startsecs=0/' "$work/profiles/tuyunfs.conf"
ctl update tuyunfs >/dev/null
until_ok "the wrong settings are given up" state EXITED tuyunfs
grep -q "exited: tuyunfs (exit status 78; expected)" "$work/log/supervisord.log" ||
    die "another end than 78:
$(cat "$work/log/supervisord.log" "$work/log/tuyunfs.log")"
echo "ok      wrong settings end it for good, with 78"

stop "$supervisor" || die "supervisord ended with $?"
