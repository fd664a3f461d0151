#!/usr/bin/env bash
# The units are valid, and the mount of the filesystem's unit is seen by others.
set -euo pipefail
cd "$(dirname "$0")/../systemd"

# Each of these gives the service a mount namespace of its own, which hides the mounted folder
# from nginx and PHP.
namespaced='PrivateTmp|PrivateDevices|PrivateMounts|ProtectSystem|ProtectHome|ProtectKernelTunables'
namespaced+='|ProtectKernelModules|ProtectKernelLogs|ProtectControlGroups|ProtectProc|ProcSubset'
namespaced+='|PrivateIPC|PrivateNetwork|ReadOnlyPaths|ReadWritePaths|InaccessiblePaths|ExecPaths'
namespaced+='|NoExecPaths|BindPaths|BindReadOnlyPaths|TemporaryFileSystem|RootDirectory|RootImage'
namespaced+='|ExtensionImages|ExtensionDirectories|MountImages|DynamicUser|BindLogSockets|MountAPIVFS'
if grep -nE "^($namespaced)=" tuyunfs.service tuyunfs@.service; then
  echo "these directives hide the mount from everybody else" >&2
  exit 1
fi

# verify wants every program to be there: the units are checked with those that were built.
target=$(cargo metadata --format-version 1 --no-deps --manifest-path ../../Cargo.toml | jq -r .target_directory)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for unit in *.service; do
  sed "s#/usr/local/bin/#$target/debug/#" "$unit" > "$work/$unit"
done
for unit in tuyunfs.service tuyunfs@pictures.service tuyun-edge.service tuyun-jump.service; do
  case $unit in
    *@*) cp "$work/tuyunfs@.service" "$work/$unit" ;;
  esac
  said=$(systemd-analyze verify --man=no "$work/$unit" 2>&1 | grep -F "$work" || true)
  if [ -n "$said" ]; then
    echo "$said" >&2
    exit 1
  fi
  echo "valid: $unit"
done
for unit in tuyunfs.service tuyun-edge.service tuyun-jump.service; do
  systemd-analyze security --offline=yes "$work/$unit" 2>/dev/null | grep -F "Overall exposure" \
    | sed "s#^.*Overall#$unit: overall#" || true
done
