#!/bin/bash
# Would systemd take our units, as `make install` puts them in place? And does the filesystem's unit
# keep out of a mount namespace of its own, in which nobody else would see the folder?
set -u -o pipefail
# shellcheck source=packaging/check/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Every directive that gives a service its own view of the files (systemd.exec, "Sandboxing").
namespaces='Private(Tmp|Devices|Mounts|IPC|Network|Users|PIDs)|Protect(System|Home|Proc|Hostname'
namespaces+='|KernelTunables|KernelModules|KernelLogs|ControlGroups|Clock)|ProcSubset|MountFlags'
namespaces+='|MountAPIVFS|MountImages|TemporaryFileSystem|Root(Directory|Image|Hash|Ephemeral)'
namespaces+='|(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec)Paths|Bind(ReadOnly)?Paths|BindLogSockets'
namespaces+='|Extension(Images|Directories)|DynamicUser|NetworkNamespacePath|IPCNamespacePath'
namespaces+='|LogNamespace'

failed=0

# expect <what> <command…>
expect() {
    local what=$1
    shift
    if "$@"; then
        echo "ok      $what"
    else
        echo "FAILED  $what"
        failed=1
    fi
}

# systemd takes a directive with blanks before it and around its sign, too.
shares_the_view() {
    ! grep -nE "^[[:space:]]*($namespaces)[[:space:]]*=" "$1"
}

# A list that finds nothing proves nothing.
finds_a_namespace() {
    local directive
    for directive in PrivateTmp=yes "  ProtectSystem = strict" ReadWritePaths=/srv LogNamespace=tuyun; do
        { cat "$1" && printf '[Service]\n%s\n' "$directive"; } >"$work/tempted.service"
        ! shares_the_view "$work/tempted.service" >/dev/null || return 1
    done
}

# verify ends with 0 after a key that it does not know, so nothing may be said either.
verified() {
    local said
    said=$(SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no --root="$root" "$1" 2>&1)
    local status=$?
    [ -z "$said" ] || echo "$said"
    [ "$status" = 0 ] && [ -z "$said" ]
}

# exposed_at_most <tenths> <unit>
exposed_at_most() {
    systemd-analyze security --offline=yes --no-pager --root="$root" --threshold="$1" "$2" \
        >"$work/exposure" 2>&1
    local status=$?
    # The last line is the sum; what each directive adds to it is of use to nobody who passes.
    [ "$status" = 0 ] || cat "$work/exposure"
    [ "$status" != 0 ] || grep 'exposure level' "$work/exposure"
    return "$status"
}

waits_longer_than_the_grace() {
    # The settings' default is 5 minutes.
    grep -q '^TimeoutStopSec=6min$' "$1"
}

needs_programs "checking units" systemd-analyze
find_programs
trap end_world EXIT
make_work
root=$work/root
units=$root/usr/lib/systemd/system
make --silent -C "$top" install DESTDIR="$root" PREFIX=/usr BUILT="$PROGRAMS_DIR" \
    >"$work/log/install.log" 2>&1 || die "make install fails:
$(cat "$work/log/install.log")"
# What our units refer to is the distribution's.
ln -s usr/lib "$root/lib"
for dir in /usr/lib/systemd/system /lib/systemd/system; do
    [ -e "$dir/sysinit.target" ] && cp -a "$dir"/*.target "$units" && break
done
[ -e "$units/sysinit.target" ] || skip "checking units needs systemd's own targets"

expect "a unit with its own view of the files would be found" finds_a_namespace \
    "$units/tuyunfs.service"
for unit in tuyunfs.service tuyunfs@.service; do
    expect "$unit stays in everybody's view of the files" shares_the_view "$units/$unit"
    expect "$unit lets pending uploads have their grace" waits_longer_than_the_grace "$units/$unit"
done
for unit in tuyunfs.service tuyunfs@site2.service tuyun-edge.service tuyun-jump.service; do
    expect "$unit is taken by systemd" verified "$unit"
done
# Mounting takes root, and no namespace; the others need nothing but a port.
for unit in tuyunfs.service tuyunfs@site2.service; do
    expect "$unit is exposed to 5.5 at most" exposed_at_most 55 "$unit"
done
for unit in tuyun-edge.service tuyun-jump.service; do
    expect "$unit is exposed to 2.0 at most" exposed_at_most 20 "$unit"
done
for helper in mount.tuyunfs mount.fuse.tuyunfs; do
    expect "$helper leads to the program" test "$(readlink "$root/sbin/$helper")" = /usr/bin/tuyunfs
done
expect "the manual page is there" grep -q '^\.TH tuyunfs' "$root/usr/share/man/man1/tuyunfs.1"
exit "$failed"
