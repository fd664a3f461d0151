#!/usr/bin/env bash
# Installs what a bare Debian 12 with Rust lacks for the tests and the demo; without root, or
# without apt, says exactly what is missing.
set -euo pipefail

# program to look for : Debian package that brings it
wanted=(
  fusermount3:fuse3 redis-server:redis-server php:php-cli rclone:rclone supervisord:supervisor
  systemd-analyze:systemd jq:jq curl:curl fuser:psmisc ip:iproute2 unshare:util-linux cc:gcc
  make:make
)

missing=()
for pair in "${wanted[@]}"; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
if ! command -v cargo >/dev/null 2>&1; then
  echo "Rust is missing: install it with rustup (https://rustup.rs), then run this again." >&2
  exit 1
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "These packages are missing: ${missing[*]}" >&2
  echo "As root: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -q -y --no-install-recommends "${missing[@]}"
# Redis and Supervisor are for tests that start their own: none has to run all the time.
for service in redis-server supervisor; do
  systemctl disable --now "$service" >/dev/null 2>&1 || true
done
