#!/bin/bash
# Does the emulator pass as OneDrive for clients that nobody here wrote?
#
# Points Debian's rclone and Debian's onedrive client at it under the service's own host names: a
# mount namespace with its own hosts file and list of authorities, a network namespace with its own port
# 443, and the emulator's authority as the only one that is trusted. Needs root, rclone, onedrive, fuse3,
# curl, iproute2 and util-linux; says which is missing. (A third client, Apache OpenDAL, is a
# library: tests/it/opendal.rs.) The emulator is $EMULATOR_BIN, or is built with cargo.
#
# Prints one line for each step and ends with "N passed, N failed".
set -u -o pipefail
export LC_ALL=C.UTF-8

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
profiles=${PEER_PROFILES:-"personal-classic personal-migrated business library china"}
# No step takes a tenth of this on a slow machine; past it something hangs.
limit=120

die() {
    echo "peers.sh: $*" >&2
    exit 1
}

find_tools() {
    [ "$(id -u)" = 0 ] || die "must run as root (it makes namespaces and mounts)"
    local missing=()
    local tool
    for tool in rclone onedrive curl unshare ip mount timeout fusermount3 mountpoint; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    [ ${#missing[@]} = 0 ] ||
        die "missing: ${missing[*]} (Debian: apt-get install rclone onedrive curl util-linux iproute2 mount fuse3)"
    [ -e /dev/fuse ] || die "missing: /dev/fuse (modprobe fuse)"
}

build() {
    [ -n "${EMULATOR_BIN:-}" ] && return
    command -v cargo >/dev/null || die "missing: cargo (or set EMULATOR_BIN)"
    (cd "$here/../.." && cargo build --quiet --package graph-emulator --bin graph-emulator) ||
        die "the emulator does not build"
    EMULATOR_BIN=${CARGO_TARGET_DIR:-$here/../../target}/debug/graph-emulator
}

if [ "${1:-}" != "--inside" ]; then
    find_tools
    build
    [ -x "$EMULATOR_BIN" ] || die "$EMULATOR_BIN is not a program"
    EMULATOR_BIN=$(readlink -f "$EMULATOR_BIN")
    export EMULATOR_BIN
    exec unshare --mount --net --pid --fork --mount-proc --propagation private \
        "${BASH_SOURCE[0]}" --inside
fi

# ---- inside the namespaces: all processes and mounts below end with this script ----

work=$(mktemp -d) || die "no temporary directory"
emulator=
passed=0
failed=0

clean() {
    mountpoint -q "$work/mnt" && fusermount3 -uz "$work/mnt"
    [ -n "$emulator" ] && kill "$emulator" 2>/dev/null
    rm -rf "$work"
}
trap clean EXIT

ip link set lo up || die "cannot bring up the loopback"
cat >"$work/hosts" <<'HOSTS'
127.0.0.1 localhost
127.0.0.1 login.microsoftonline.com graph.microsoft.com
127.0.0.1 contoso-my.sharepoint.com public.dm.files.1drv.com my.microsoftpersonalcontent.com
127.0.0.1 login.chinacloudapi.cn microsoftgraph.chinacloudapi.cn contoso-my.sharepoint.cn
HOSTS
mount --bind "$work/hosts" /etc/hosts || die "cannot bind a hosts file"
# libcurl looks here, whatever OpenSSL is told; the emulator writes it when it starts.
: >"$work/ca.pem"
mount --bind "$work/ca.pem" /etc/ssl/certs/ca-certificates.crt || die "cannot bind the authorities"
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy
export HOME=$work XDG_CONFIG_HOME=$work XDG_CACHE_HOME=$work
export RCLONE_CONFIG=$work/rclone.conf SSL_CERT_FILE=$work/ca.pem SSL_CERT_DIR=$work/none

# rclone learnt in 1.65 to keep its token from the storage hosts; the service of the time before
# overlooked it, the present one answers 401.
version=$(rclone version | sed -n '1s/^rclone v\([0-9]*\)\.\([0-9]*\).*/\1 \2/p')
read -r major minor <<<"$version"
lenient=
if [ "${major:-0}" = 1 ] && [ "${minor:-0}" -lt 65 ]; then
    lenient=--storage-takes-tokens
fi

# step <what> <command…>: runs it, says how it went, shows its output when it went wrong.
step() {
    local what=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
        echo "ok      $profile: $what"
    else
        failed=$((failed + 1))
        echo "FAILED  $profile: $what"
        sed 's/^/        /' "$work/out" | tail -n 20
    fi
}

rc() {
    timeout "$limit" rclone --retries 1 --low-level-retries 5 --contimeout 5s "$@"
}

control() {
    curl -sS --fail-with-body --max-time 30 "$@"
}

# The text of a field of a flat JSON object.
field() {
    sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p"
}

count() {
    control "$control_url/counts" | sed -n "s/.*\"$1\":\\([0-9]*\\).*/\\1/p"
}

start() {
    rm -f "$work/ready"
    # shellcheck disable=SC2086 # zero or one option
    "$EMULATOR_BIN" --profile "$profile" --tls --hosts-mode 443 --ca-out "$work/ca.pem" $lenient \
        >"$work/ready" 2>"$work/log" &
    emulator=$!
    local _
    for _ in $(seq 100); do
        [ -s "$work/ready" ] && break
        kill -0 "$emulator" 2>/dev/null || die "the emulator does not start: $(cat "$work/log")"
        sleep 0.1
    done
    control_url=$(field control <"$work/ready")
    [ -n "$control_url" ] || die "the emulator does not say where it listens"
    local client secret drive type tokens region=global
    client=$(field confidential_client <"$work/ready")
    secret=$(field confidential_secret <"$work/ready")
    drive=$(field drive_id <"$work/ready")
    case $profile in
    personal-*) type=personal ;;
    library) type=documentLibrary ;;
    *) type=business ;;
    esac
    [ "$profile" = china ] && region=cn
    tokens=$(control -H 'Content-Type: application/json' -d "{\"client_id\":\"$client\"}" \
        "$control_url/token") || die "no token from the emulator"
    # The access token is given as expired, so the first request has to refresh it.
    cat >"$RCLONE_CONFIG" <<CONF
[od]
type = onedrive
region = $region
client_id = $client
client_secret = $secret
drive_id = $drive
drive_type = $type
token = {"access_token":"x","token_type":"Bearer","refresh_token":"$(echo "$tokens" | field refresh_token)","expiry":"2020-01-01T00:00:00Z"}
CONF
}

stop() {
    kill "$emulator"
    wait "$emulator"
    emulator=
}

make_tree() {
    rm -rf "$work/src"
    mkdir -p "$work/src/2026/02" "$work/src/dir with spaces" "$work/src/图片"
    local n
    for n in $(seq 12); do
        head -c $((n * 9973)) /dev/urandom >"$work/src/2026/02/$n.jpg"
    done
    : >"$work/src/empty.txt"
    echo "hash and percent" >"$work/src/a#b%c+d.txt"
    echo "quote" >"$work/src/dir with spaces/it's (1).txt"
    echo "中文" >"$work/src/图片/春天.txt"
    echo "forbidden to OneDrive, mapped by rclone" >"$work/src/a:b?.txt"
    head -c 300000 /dev/urandom >"$work/src/图片/photo.png"
}

# Sums of the local tree against those that the drive gives, each as rclone computes or reads them.
# An empty file has no sum on the drive.
same_sums() {
    local kind=$1
    (cd "$work" && rc hashsum "$kind" src | grep -v ' empty.txt$' | sort) >"$work/local.sums" ||
        return 1
    rc hashsum "$kind" od:tree | grep -v ' empty.txt$' | sort >"$work/remote.sums" || return 1
    [ "$(wc -l <"$work/local.sums")" = 17 ] && diff "$work/local.sums" "$work/remote.sums"
}

# An old rclone does not read QuickXorHash from personal drives: the sums that the emulator keeps
# against those that rclone computes.
same_sums_kept() {
    (cd "$work" && rc hashsum --base64 quickxor src | cut -d' ' -f1 | tr _- /+ | sort) >"$work/local.sums" ||
        return 1
    control "$control_url/tree" | grep -o '"quick_xor_hash":"[^"]*"' | cut -d'"' -f4 |
        sort >"$work/remote.sums"
    [ "$(wc -l <"$work/local.sums")" = 18 ] && diff "$work/local.sums" "$work/remote.sums"
}

moved() {
    rc moveto od:tree/2026/02/1.jpg od:tree/2026/moved.jpg || return 1
    [ "$(rc lsf od:tree/2026)" = "$(printf '02/\nmoved.jpg')" ] || return 1
    rc cat od:tree/2026/moved.jpg | cmp - "$work/src/2026/02/1.jpg"
}

moved_directory() {
    rc moveto "od:tree/dir with spaces" od:tree/renamed || return 1
    [ "$(rc lsf od:tree/renamed)" = "it's (1).txt" ]
}

deleted() {
    rc deletefile od:tree/2026/moved.jpg || return 1
    [ "$(rc lsf od:tree/2026)" = "02/" ]
}

overwritten() {
    echo "second version" >"$work/second"
    rc copyto --ignore-times "$work/second" od:tree/2026/02/2.jpg || return 1
    rc cat od:tree/2026/02/2.jpg | cmp - "$work/second"
}

copied_by_server() {
    rc copyto od:tree/2026/02/3.jpg od:tree/copy.jpg || return 1
    rc cat od:tree/copy.jpg | cmp - "$work/src/2026/02/3.jpg"
}

# Twelve and a half megabytes in fragments of 640 KiB are 20 at least.
uploaded_in_sessions() {
    head -c 13107201 /dev/urandom >"$work/large.bin"
    local before
    before=$(count fragment)
    rc copyto --onedrive-chunk-size 640k --checksum "$work/large.bin" od:large.bin || return 1
    [ $(($(count fragment) - ${before:-0})) -ge 20 ] || { count fragment; return 1; }
    rc cat od:large.bin | cmp - "$work/large.bin"
}

read_in_part() {
    rc cat --offset 5000000 --count 100000 od:large.bin |
        cmp - <(tail -c +5000001 "$work/large.bin" | head -c 100000)
}

listed_in_small_pages() {
    control -X PATCH -H 'Content-Type: application/json' -d '{"page_cap":2}' \
        "$control_url/settings" >/dev/null || return 1
    local listed
    listed=$(rc lsf od:tree/2026/02 | wc -l)
    control -X PATCH -H 'Content-Type: application/json' -d '{"page_cap":1000}' \
        "$control_url/settings" >/dev/null || return 1
    [ "$listed" = 11 ]
}

throttled_and_done() {
    control -H 'Content-Type: application/json' -d '{"route":"create_session","often":{"times":2},
        "act":{"act":"refuse","status":429,"retry_after":1}}' "$control_url/faults" || return 1
    echo "patience" >"$work/patience"
    rc rcat od:patience.txt <"$work/patience" || return 1
    rc cat od:patience.txt | cmp - "$work/patience" || return 1
    [ "$(control "$control_url/faults")" = "[]" ]
}

mounted() {
    mkdir -p "$work/mnt"
    timeout "$limit" rclone mount od: "$work/mnt" --vfs-cache-mode writes --vfs-write-back 0 \
        --dir-cache-time 1s --daemon --daemon-wait 20s
}

# Waits until the drive has a file with these bytes, as another client would see it: rclone uploads
# after the close.
arrives() {
    local _
    for _ in $(seq 150); do
        control "$control_url/file?path=$1" 2>/dev/null | cmp -s - "$2" && return 0
        sleep 0.2
    done
    echo "$1 did not arrive"
    return 1
}

written_through_mount() {
    mkdir -p "$work/mnt/m/sub" || return 1
    cp "$work/src/图片/photo.png" "$work/mnt/m/sub/photo.png" || return 1
    cp "$work/second" "$work/mnt/m/small.txt" || return 1
    [ "$(ls "$work/mnt/m")" = "$(printf 'small.txt\nsub')" ] || return 1
    cmp "$work/mnt/m/sub/photo.png" "$work/src/图片/photo.png" || return 1
    arrives m/sub/photo.png "$work/src/图片/photo.png" || return 1
    # Before that, a rename can cost rclone the file: it looks for its sum under the old name.
    arrives m/small.txt "$work/second" || return 1
    mv "$work/mnt/m/small.txt" "$work/mnt/m/renamed.txt" || return 1
    arrives m/renamed.txt "$work/second"
}

removed_through_mount() {
    rm -r "$work/mnt/m/sub" && [ "$(ls "$work/mnt/m")" = renamed.txt ] &&
        [ "$(rc lsf od:m)" = renamed.txt ]
}

unmounted() {
    fusermount3 -u "$work/mnt" && ! mountpoint -q "$work/mnt"
}

purged() {
    rc purge od:tree && rc purge od:m && rc deletefile od:large.bin &&
        rc deletefile od:patience.txt && [ -z "$(rc lsf od:)" ]
}

# The onedrive client has its own application and its own words for the settings; what it sends goes
# through libcurl, which trusts the system's list of authorities.
onedrive_settings() {
    local confdir=$1
    mkdir -p "$confdir" || return 1
    control -H 'Content-Type: application/json' \
        -d '{"client_id":"d50ca740-c83f-4d1b-b616-12c519384f0c"}' "$control_url/token" |
        field refresh_token | tr -d '\n' >"$confdir/refresh_token" || return 1
    [ -s "$confdir/refresh_token" ] || return 1
    [ "$profile" != library ] || echo "drive_id = \"$(field drive_id <"$work/ready")\"" >"$confdir/config"
}

# od <settings> <folder>: one round.
od() {
    timeout "$limit" onedrive --confdir "$1" --syncdir "$2" --synchronize
}

synced_up() {
    rm -rf "$work/up" "$work/up.conf"
    mkdir -p "$work/up/deep/er" || return 1
    echo "from the onedrive client" >"$work/up/deep/er/it's 图片.txt"
    # Above four megabytes it opens an upload session.
    head -c 4500000 /dev/urandom >"$work/up/deep/large.bin"
    onedrive_settings "$work/up.conf" && od "$work/up.conf" "$work/up" || return 1
    arrives "deep/er/it's%20%E5%9B%BE%E7%89%87.txt" "$work/up/deep/er/it's 图片.txt" &&
        arrives deep/large.bin "$work/up/deep/large.bin"
}

synced_down() {
    rm -rf "$work/down" "$work/down.conf"
    mkdir -p "$work/down" || return 1
    onedrive_settings "$work/down.conf" && od "$work/down.conf" "$work/down" &&
        diff -r "$work/up" "$work/down"
}

changes_of_rclone_synced() {
    rc copyto "$work/second" od:deep/new.txt && rc copyto --ignore-times "$work/second" od:deep/large.bin &&
        od "$work/down.conf" "$work/down" && cmp "$work/down/deep/new.txt" "$work/second" &&
        cmp "$work/down/deep/large.bin" "$work/second"
}

# What it fetches counts for nothing new afterwards, on either side.
nothing_left_to_sync() {
    local before
    before=$(count put_content) || return 1
    od "$work/down.conf" "$work/down" || return 1
    [ "$(count put_content)" = "$before" ] && rc check --download "$work/down" od: && rc purge od:deep
}

about() {
    rc about od: --json | grep -q '"total": 1099511627776'
}

for profile in $profiles; do
    start
    make_tree
    step "lists an empty drive with a token that it had to refresh" rc lsf od:
    step "copies a tree" rc copy "$work/src" od:tree
    step "reads it back byte for byte" rc check --download "$work/src" od:tree
    case $profile in
    personal-*) step "agrees on every QuickXorHash that is kept" same_sums_kept ;;
    *) step "agrees on every QuickXorHash" same_sums quickxor ;;
    esac
    [ "$profile" = personal-classic ] && step "agrees on every SHA-1" same_sums sha1
    step "finds nothing to do the second time" \
        bash -c "timeout $limit rclone copy '$work/src' od:tree -v 2>&1 | tee /dev/stderr |
            grep -q 'There was nothing to transfer'"
    step "moves a file" moved
    step "moves a directory" moved_directory
    step "deletes a file" deleted
    step "overwrites a file" overwritten
    step "copies on the server's side" copied_by_server
    step "uploads a large file in a session" uploaded_in_sessions
    step "reads a part of it" read_in_part
    step "lists in pages of two" listed_in_small_pages
    step "waits when throttled" throttled_and_done
    step "tells the space" about
    step "mounts" mounted
    step "writes, lists, reads and renames through the mount" written_through_mount
    step "removes through the mount" removed_through_mount
    step "unmounts" unmounted
    step "purges everything" purged
    # It knows no drive without delta, and takes changes without paths for none of its own.
    if [ "$profile" != china ]; then
        control -X PATCH -H 'Content-Type: application/json' -d '{"delta_tells_paths":true}' \
            "$control_url/settings" >/dev/null || die "the emulator's control does not take settings"
        step "onedrive sends a tree" synced_up
        step "onedrive fetches it" synced_down
        step "onedrive follows what rclone changes" changes_of_rclone_synced
        step "onedrive has nothing to do the second time" nothing_left_to_sync
    fi
    stop
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
