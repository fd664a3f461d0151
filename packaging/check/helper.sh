#!/bin/bash
# The mount helper as `make install` puts it in place, called by the real mount(8): by a line of
# fstab, by -t tuyunfs, by -t fuse.tuyunfs.
#
# Everything happens in a mount and process namespace of its own, with copies of /sbin and of
# /etc/fstab: nothing of this machine is changed, and nothing outlives this script.
set -u -o pipefail
# shellcheck source=packaging/check/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [ "${1:-}" != --inside ]; then
    needs_root_and_fuse "the mount helper"
    needs_programs "the mount helper" mount umount findmnt unshare setpriv curl
    find_programs
    exec unshare --mount --pid --fork --mount-proc --propagation private \
        "${BASH_SOURCE[0]}" --inside
fi

finish() {
    umount -l "$(readlink -f /sbin)" "$work/sbin" 2>/dev/null
    end_world
}

trap finish EXIT
make_work

# nobody, who is on every machine and has no rights.
nobody=65534

install_helper() {
    # A copy, since the helper must be in /sbin itself; on memory, as it is thrown away.
    mkdir "$work/sbin"
    mount -t tmpfs tmpfs "$work/sbin" && cp -a /sbin/. "$work/sbin" &&
        mount --bind "$work/sbin" "$(readlink -f /sbin)" || die "cannot put a copy over /sbin"
    make --silent -C "$top" install PREFIX="$work/usr" SYSCONFDIR="$work/etc" \
        BUILT="$PROGRAMS_DIR" >"$work/log/install.log" 2>&1 || die "make install fails:
$(cat "$work/log/install.log")"
    # The helper re-runs the program, also for others to look through.
    chmod 0755 "$work/usr" "$work/usr/bin"
}

settings=$work/tuyunfs.toml
point=$work/mnt

# No mount and no daemon: what `mount` started has ended.
is_gone() {
    ! is_mounted "$point" && ! pgrep -x tuyunfs >/dev/null
}

as_nobody() {
    setpriv --reuid=$nobody --regid=$nobody --clear-groups "$@"
}

# works <what>: the folder is there, of our type and source, open to others, and keeps files.
works() {
    is_mounted "$point" || die "$1: not mounted:
$(findmnt --raw)"
    [ "$(findmnt --noheadings --output SOURCE --mountpoint "$point")" = onedrive:/share/mount ] ||
        die "$1: another source: $(findmnt --mountpoint "$point")"
    [ "$(stat -c %u:%a "$point")" = "$nobody:755" ] ||
        die "$1: another owner or mode: $(stat -c %u:%a "$point")"
    as_nobody sh -c "echo '$1' >'$point/by-nobody.txt'" || die "$1: others cannot write"
    [ "$(as_nobody cat "$point/by-nobody.txt")" = "$1" ] || die "$1: others cannot read"
}

# leaves <what>: umount is enough, the daemon ends by itself, and the drive has the file.
leaves() {
    umount "$point" || die "$1: cannot unmount"
    until_ok "$1: the daemon has ended" is_gone
    echo "$1" >"$work/expected"
    until_ok "$1: the drive has the file" cloud_has share/mount/by-nobody.txt "$work/expected"
    echo "ok      $1"
}

# mounts <what> <mount arguments…>: mount(8) is content, and then it works.
mounts() {
    local what=$1 status
    shift
    mount "$@" 2>>"$work/log/mount.log"
    status=$?
    [ "$status" = 0 ] || die "$what: mount ended with $status:
$(cat "$work/log/mount.log")"
    works "$what"
}

# refused <status> <what> <words> <mount arguments…>
refused() {
    local wanted=$1 what=$2 words=$3 status
    shift 3
    mount "$@" >"$work/said" 2>&1
    status=$?
    [ "$status" = "$wanted" ] || die "$what: mount ended with $status:
$(cat "$work/said")"
    grep -q "$words" "$work/said" || die "$what: it does not say '$words':
$(cat "$work/said")"
    ! is_mounted "$point" || die "$what: mounted"
    until_ok "$what: no daemon is left" is_gone
    echo "ok      $what"
}

install_helper
mkdir "$point"
start_cloud
# A point in the file that the line overrules.
write_tuyunfs_settings "$settings" "$work/state" "$work/elsewhere"
mounted_at+=("$point")
options=config=$settings,allow_other,uid=nobody

refused 1 "without a sign-in it says how to sign in" "tuyunfs login" \
    -t tuyunfs -o "$options" onedrive:/share/mount "$point"
sign_in "$settings"

cat >"$work/fstab" <<FSTAB
onedrive:/share/mount $point tuyunfs $options,_netdev,nofail,x-systemd.mount-timeout=90s 0 0
FSTAB
[ -e /etc/fstab ] || skip "the mount helper needs /etc/fstab to be there"
mount --bind "$work/fstab" /etc/fstab || die "cannot put a copy over /etc/fstab"

mounts "mounted by a line of fstab" "$point"
leaves "mounted by a line of fstab"

mounts "mounted by mount -a" -a
leaves "mounted by mount -a"

mounts "mounted by -t tuyunfs" -t tuyunfs -o "$options" onedrive:/share/mount "$point"
leaves "mounted by -t tuyunfs"

mounts "mounted by -t fuse.tuyunfs" -t fuse.tuyunfs -o "$options" onedrive:/share/mount "$point"
leaves "mounted by -t fuse.tuyunfs"

mount -t tuyunfs -o "$options,ro" onedrive:/share/mount "$point" 2>>"$work/log/mount.log" ||
    die "-o ro failed with $?"
! touch "$point/new" 2>/dev/null || die "-o ro takes new files"
umount "$point"
until_ok "the daemon has ended" is_gone
echo "ok      -o ro refuses changes"

mount -f -t tuyunfs -o "$options" onedrive:/share/mount "$point" || die "-f failed with $?"
is_gone || die "-f mounted"
echo "ok      -f only pretends"

refused 1 "an option that nobody knows is refused" oddity \
    -t tuyunfs -o "$options,oddity" onedrive:/share/mount "$point"
mounts "with -s it is passed over" -s -t tuyunfs -o "$options,oddity" onedrive:/share/mount "$point"
leaves "with -s it is passed over"
