#!/usr/bin/env bash
# The whole system on this machine, on an emulated OneDrive: no account, nothing installed.
#
#   run.sh            starts it, says what to try, runs until Ctrl-C
#   run.sh --check    starts it, fetches a picture through jump and edge, stops, and looks that
#                     nothing is left behind
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD
check=false
[ "${1:-}" = "--check" ] && check=true

cargo build --quiet --bins -p tuyunfs -p tuyun-edge -p tuyun-jump -p graph-emulator
bin=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/debug

home=$top/demo
$check && home=$(mktemp -d)
work=$home/work
point=$home/mnt
mkdir -p "$work" "$point"
rm -rf "${work:?}"/*
pids=()

mounted() { awk -v point="$point" '$5 == point' /proc/self/mountinfo | grep -q .; }

cleanup() {
  trap - EXIT INT TERM
  # Edge and jump first, then the mount, then the drive that it still writes to.
  for ((n = ${#pids[@]} - 1; n >= 0; n--)); do
    kill "${pids[n]}" 2>/dev/null || true
    wait "${pids[n]}" 2>/dev/null || true
  done
  if mounted; then umount -l "$point" || true; fi
  rm -rf "$work"
  rmdir "$point" 2>/dev/null || true
  rmdir "$home" 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 0' INT TERM

say() { printf '%s\n' "$*"; }
die() { say "demo: $*" >&2; for log in "$work"/*.log; do say "--- $log"; tail -n 20 "$log"; done >&2; exit 1; }

# Waits for something, half a minute at most.
until_true() {
  local what=$1
  shift
  for _ in $(seq 1 300); do
    if "$@" >/dev/null 2>&1; then return; fi
    for pid in "${pids[@]}"; do kill -0 "$pid" 2>/dev/null || die "a program ended while waiting for $what"; done
    sleep 0.1
  done
  die "waited in vain for $what"
}
ok() { curl --silent --fail --output /dev/null "$1"; }

port() { python3 - <<'P' 2>/dev/null || echo "$1"
import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])
P
}
origin_port=7200 jump_port=56789 edge_port=45678 metrics_port=7201 jump_control=56790 edge_control=45679
if $check; then
  origin_port=$(port 17200) jump_port=$(port 17201) edge_port=$(port 17202)
  metrics_port=$(port 17203) jump_control=$(port 17204) edge_control=$(port 17205)
fi

# The emulated OneDrive.
"$bin/graph-emulator" --profile business --auto-approve > "$work/emulator.json" 2> "$work/emulator.log" &
pids+=($!)
until_true "the emulated OneDrive" grep -q graph "$work/emulator.json"
login=$(jq -r .login "$work/emulator.json")
graph=$(jq -r .graph "$work/emulator.json")
control=$(jq -r .control "$work/emulator.json")

# tuyunfs, signed in with a token of the emulator's.
umask 077
printf 'demo-node-token\n' > "$work/node-token"
cat > "$work/tuyunfs.toml" <<T
state_dir = "$work/state"
[drive]
login_url = "$login"
graph_url = "$graph"
client_id = "demo"
poll = "2s"
[mount]
point = "$point"
[cache]
min_free = "64MiB"
[origin]
listen = "127.0.0.1:$origin_port"
[control]
socket = "$work/control.sock"
metrics = "127.0.0.1:$metrics_port"
T
curl --silent --fail -X POST -H 'content-type: application/json' -d '{"client_id":"demo"}' "$control/token" \
  | jq -c '{access_token, refresh_token, token_type: "Bearer", expiry: "2020-01-01T00:00:00Z"}' > "$work/token.json"
"$bin/tuyunfs" login --rclone "$work/token.json" --config "$work/tuyunfs.toml" > "$work/login.log" 2>&1 \
  || die "cannot sign in"

how=()
if [ ! -e /dev/fuse ]; then
  say "There is no /dev/fuse here: the pictures are served without the mounted folder."
  how=(--origin-only)
elif [ "$(id -u)" -ne 0 ] && ! command -v fusermount3 >/dev/null; then
  say "Mounting needs root, or fusermount3: the pictures are served without the mounted folder."
  how=(--origin-only)
elif [ "$(id -u)" -ne 0 ]; then
  # Without root, only the user who mounts may look in.
  sed -i 's/^\[mount\]$/[mount]\nallow_other = false/' "$work/tuyunfs.toml"
fi
"$bin/tuyunfs" mount "${how[@]}" --config "$work/tuyunfs.toml" > "$work/tuyunfs.log" 2>&1 &
pids+=($!)
until_true "tuyunfs" ok "http://127.0.0.1:$metrics_port/readyz"

# jump, and one edge that reports to it.
cat > "$work/jump.toml" <<T
listen = "127.0.0.1:$jump_port"
origin = "http://127.0.0.1:$origin_port/"
[nodes]
token_file = "$work/node-token"
allow_private = true
[control]
listen = "127.0.0.1:$jump_control"
T
cat > "$work/edge.toml" <<T
listen = "127.0.0.1:$edge_port"
server_id = "1"
url = "http://127.0.0.1:$edge_port/"
[origin]
primary = "http://127.0.0.1:$origin_port/"
[cache]
dir = "$work/edge-cache"
max_size = "256MiB"
[jump]
urls = ["http://127.0.0.1:$jump_port/"]
token_file = "$work/node-token"
interval = "1s"
[control]
listen = "127.0.0.1:$edge_control"
T
"$bin/tuyun-jump" serve --config "$work/jump.toml" > "$work/jump.log" 2>&1 &
pids+=($!)
until_true "tuyun-jump" ok "http://127.0.0.1:$jump_control/healthz"
"$bin/tuyun-edge" serve --config "$work/edge.toml" > "$work/edge.log" 2>&1 &
pids+=($!)
until_true "tuyun-edge" ok "http://127.0.0.1:$edge_control/healthz"

# A sample picture: into the folder, or, without one, onto the drive.
base64 -d > "$work/sample.png" <<'B'
iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==
B
if [ ${#how[@]} -eq 0 ]; then
  mkdir -p "$point/pic"
  cp "$work/sample.png" "$point/pic/sample.png"
else
  curl --silent --fail --output /dev/null -X PUT --data-binary @"$work/sample.png" \
    "$control/file?path=share/mount/pic/sample.png"
fi
picture=http://127.0.0.1:$jump_port/mount/pic/sample.png
sent_to_edge() {
  curl --silent --output /dev/null --write-out '%{redirect_url}' "$picture" | grep -q ":$edge_port/"
}
until_true "the edge's first heartbeat" sent_to_edge
until_true "the picture" ok "http://127.0.0.1:$edge_port/mount/pic/sample.png"

if $check; then
  curl --silent --fail --location "$picture" | cmp - "$work/sample.png" || die "the picture came back changed"
  if [ ${#how[@]} -eq 0 ]; then
    cmp "$point/pic/sample.png" "$work/sample.png" || die "the mounted folder has other bytes"
  fi
  all=("${pids[@]}")
  cleanup
  for pid in "${all[@]}"; do
    if kill -0 "$pid" 2>/dev/null; then say "demo: process $pid is still there" >&2; exit 1; fi
  done
  if mounted; then say "demo: still mounted at $point" >&2; exit 1; fi
  [ ! -e "$home" ] || { say "demo: left behind: $(ls -A "$home")" >&2; exit 1; }
  say "the demo ran, gave the picture back, and left nothing behind"
  exit 0
fi

say ""
say "Tuyun runs on an emulated OneDrive:"
[ ${#how[@]} -eq 0 ] && say "  mounted folder  $point"
say "  origin          http://127.0.0.1:$origin_port/mount/"
say "  jump            http://127.0.0.1:$jump_port/"
say "  edge            http://127.0.0.1:$edge_port/"
say "  emulated drive  $control/tree"
say ""
say "Try:  curl -L -o /dev/null -w '%{http_code} %{url_effective}\n' $picture"
[ ${#how[@]} -eq 0 ] && say "      cp some-picture.jpg $point/pic/ && curl -I http://127.0.0.1:$jump_port/mount/pic/some-picture.jpg"
say "      $bin/tuyunfs status --config $work/tuyunfs.toml"
say ""
say "Ctrl-C stops and cleans up."
while true; do
  for pid in "${pids[@]}"; do
    kill -0 "$pid" 2>/dev/null || die "a program ended"
  done
  sleep 1
done
