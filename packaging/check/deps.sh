#!/bin/bash
# What a bare Debian 12 with Rust lacks for a job: installed as root, else named.
#
#   deps.sh build | demo | test | bench-edge | bench-jump
set -u -o pipefail

# A program (or a file, where it begins with a slash) and the Debian package that has it.
build_needs="
make                                make
cc                                  gcc
/usr/include/stdlib.h               libc6-dev
/etc/ssl/certs/ca-certificates.crt  ca-certificates
"
demo_needs="$build_needs
curl                                curl
cmp                                 diffutils
mountpoint                          util-linux
setsid                              util-linux
findmnt                             util-linux
"
test_needs="$demo_needs
jq                                  jq
fusermount3                         fuse3
mount                               mount
mkfs.ext4                           e2fsprogs
unshare                             util-linux
ip                                  iproute2
ps                                  procps
fuser                               psmisc
redis-server                        redis-server
redis-cli                           redis-tools
chromium                            chromium
php                                 php-cli
rclone                              rclone
onedrive                            onedrive
tar                                 tar
sed                                 sed
git                                 git
rsync                               rsync
sqlite3                             sqlite3
vim.tiny                            vim-tiny
nginx                               nginx-light
supervisord                         supervisor
systemd-analyze                     systemd
"
# What the edge is measured against; nothing else needs it.
bench_edge_needs="$demo_needs
taskset                             util-linux
wrk                                 wrk
nginx                               nginx-light
varnishd                            varnish
openssl                             openssl
"

# What the jump is measured against.
bench_jump_needs="$build_needs
curl                                curl
taskset                             util-linux
wrk                                 wrk
nginx                               nginx-light
redis-server                        redis-server
redis-cli                           redis-tools
/usr/lib/python3/dist-packages/flask      python3-flask
/usr/lib/python3/dist-packages/hypercorn  python3-hypercorn
/usr/lib/python3/dist-packages/redis      python3-redis
"

die() {
    echo "$*" >&2
    exit 1
}

case ${1:-} in
build) needs=$build_needs ;;
demo) needs=$demo_needs ;;
test) needs=$test_needs ;;
bench-edge) needs=$bench_edge_needs ;;
bench-jump) needs=$bench_jump_needs ;;
*) die "usage: deps.sh build | demo | test | bench-edge | bench-jump" ;;
esac

# Some of these live where only root's path leads.
PATH=$PATH:/usr/sbin:/sbin

has() {
    case $1 in
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# Fills `packages` (each once) and `things` with what is missing.
look() {
    packages=()
    things=()
    local thing package
    while read -r thing package; do
        [ -n "$thing" ] || continue
        has "$thing" && continue
        things+=("$thing")
        [[ " ${packages[*]-} " = *" $package "* ]] || packages+=("$package")
    done <<<"$needs"
}

rust() {
    has cargo || die "missing: Rust. Install it from https://rustup.rs, then run this again."
    # Without a toolchain behind it, it is there and of no use; and what says nothing proves nothing.
    [[ $(cargo --version 2>&1) = "cargo "[0-9]* ]] ||
        die "cargo does not work: \`cargo --version\` has to tell its version (rustup default stable)"
    [ "$1" = test ] || return 0
    cargo fmt --version >/dev/null 2>&1 || die "missing: rustfmt (rustup component add rustfmt)"
    cargo clippy --version >/dev/null 2>&1 || die "missing: clippy (rustup component add clippy)"
}

rust "$1"
look
[ ${#packages[@]} = 0 ] && exit 0

if ! has apt-get; then
    die "missing: ${things[*]} (this is no Debian; on Debian they are in: ${packages[*]})"
fi
if [ "$(id -u)" != 0 ]; then
    die "missing: ${things[*]}
as root: apt-get install --no-install-recommends ${packages[*]}"
fi
echo "installing: ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq || echo "apt-get update failed; trying with the lists that are here" >&2
apt-get install -qq -y --no-install-recommends "${packages[@]}" >/dev/null ||
    die "cannot install: ${packages[*]}"
# They are for tests, which start their own; nobody asked for them to run all the time.
for service in redis-server supervisor nginx varnish; do
    # nginx-light has the service nginx.
    [[ " ${packages[*]}" != *" $service"* ]] ||
        systemctl disable --now "$service" >/dev/null 2>&1
done
look
[ ${#things[@]} = 0 ] || die "still missing: ${things[*]}"
