#!/bin/bash
# What the benches share: a world in which tuyunfs and `rclone mount` use one emulated drive under the
# service's own host names, and a program that does what applications do. To be sourced.
# shellcheck source=packaging/check/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../packaging/check/lib.sh"

# Namespaces of our own: unshared by whoever calls this, after `make_work`.
enter_world() {
    ip link set lo up || die "cannot bring up the loopback"
    cat >"$work/hosts" <<'HOSTS'
127.0.0.1 localhost
127.0.0.1 login.microsoftonline.com graph.microsoft.com
127.0.0.1 contoso-my.sharepoint.com public.dm.files.1drv.com my.microsoftpersonalcontent.com
HOSTS
    mount --bind "$work/hosts" /etc/hosts || die "cannot bind a hosts file"
    export SSL_CERT_FILE=$work/ca.pem SSL_CERT_DIR=$work/none
    export RCLONE_CONFIG=$work/rclone.conf XDG_CACHE_HOME=$work/cache
}

# start_drive <profile>: Debian's rclone is of a time when the storage hosts overlooked a token.
start_drive() {
    profile=$1
    rm -rf "$work/cloud.json" "${disk:-$work}/state" "${disk:-$work}/cache" "$work/results"
    start_cloud --profile "$profile" --tls --hosts-mode 443 --ca-out "$work/ca.pem" \
        --storage-takes-tokens
    rclone_settings
}

# make_disk: an ext4 with a journal, as most machines have, whatever this one stands on; at $disk. A disk without one
# makes new files slowly for some seconds after it has deleted others, and syncs at next to no cost.
make_disk() {
    disk=$work/disk
    truncate -s 8G "$work/disk.img" && mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$work/disk.img" &&
        mkdir "$disk" && mount -o loop "$work/disk.img" "$disk" || die "cannot make a disk"
    # Where rclone keeps what it caches.
    export XDG_CACHE_HOME=$disk/cache
}

end_disk() {
    umount -l "$disk" 2>/dev/null
    end_world
}

control() {
    curl -fsS --max-time 600 "$@" || die "the emulator's control does not take $*"
}

adjust() {
    control -X PATCH -H 'Content-Type: application/json' -d "$1" "$cloud_control/settings" >"$work/none"
}

# put <path with curl's ranges> <bytes>: another client puts files.
put() {
    head -c "$2" /dev/urandom >"$work/bytes"
    control -X PUT --data-binary "@$work/bytes" -o "$work/none" "$cloud_control/file?path=share/mount/$1"
}

rclone_settings() {
    local secret drive confidential tokens type=personal
    confidential=$(field confidential_client <"$work/cloud.json")
    secret=$(field confidential_secret <"$work/cloud.json")
    drive=$(field drive_id <"$work/cloud.json")
    [ "$profile" != business ] || type=business
    tokens=$(control -H 'Content-Type: application/json' -d "{\"client_id\":\"$confidential\"}" \
        "$cloud_control/token")
    cat >"$RCLONE_CONFIG" <<CONF
[od]
type = onedrive
region = global
client_id = $confidential
client_secret = $secret
drive_id = $drive
drive_type = $type
token = {"access_token":"x","token_type":"Bearer","refresh_token":"$(echo "$tokens" | field refresh_token)","expiry":"2020-01-01T00:00:00Z"}
CONF
}

# prepare_tuyunfs <point> <lines for [writeback]…>: its settings, and a sign-in.
prepare_tuyunfs() {
    local point=$1 line
    shift
    write_tuyunfs_settings "$work/tuyunfs.toml" "${disk:-$work}/state" "$point"
    # The service's own addresses, which are the emulator's here; changes come by push.
    sed -i -e 's/^poll = .*/poll = "1h"/' -e '/^login_url\|^graph_url/d' \
        -e "s|^\[drive\]|[drive]\nca_file = \"$work/ca.pem\"|" "$work/tuyunfs.toml"
    for line; do
        sed -i -e "/^${line%% *} = /d" -e "s/^\[writeback\]/&\n$line/" "$work/tuyunfs.toml"
    done
    sign_in "$work/tuyunfs.toml"
}

start_tuyunfs() {
    start tuyunfs "$PROGRAMS_DIR/tuyunfs" mount --config "$work/tuyunfs.toml"
    mounted=$started
    ready tuyunfs "$mounted" "$metrics_url/readyz"
}

# start_rclone <flags…>: at $point, with the flags that people use.
start_rclone() {
    start rclone rclone mount od:share/mount "$point" --allow-other --allow-non-empty --umask 000 \
        --vfs-cache-mode full --attr-timeout 15m --vfs-cache-max-age 240h --vfs-cache-max-size 1G \
        --buffer-size 100M "$@"
    mounted=$started
    until_ok "rclone mounts" mountpoint -q "$point"
}

is_free() { ! mountpoint -q "$point"; }

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

build_release() {
    PROGRAMS_DIR=$("$top/packaging/check/target-dir.sh")/release
    export PROGRAMS_DIR
    (cd "$top" && cargo build --release --locked --package tuyunfs --package graph-emulator \
        --package tuyun-tests --bins) || die "the programs do not build"
}
