#!/bin/bash
# How many visitors a second the jump sends on, beside nginx's `return 302` and a small Flask + hypercorn +
# redis redirect that stands for the original jump.
#
#   jump.sh [rounds] [seconds]     default: 5 2
#
# The servers have the first processor, whoever asks has the second. Each round asks one after the other,
# so that what else the machine does hits all; the median of the rounds' ratios counts. The jump is asked
# with its nodes in memory, with them in Redis, and with that Redis stopped. Redirects a processor second
# are what a busy machine does not disturb; Redis' own processor time counts for nobody. Prints a table
# for docs/benchmarks.md.
set -u -o pipefail
# shellcheck source=packaging/check/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../packaging/check/lib.sh"

rounds=${1:-5}
seconds=${2:-2}
connections="${BENCH_CONNECTIONS:-16 64}"
peers="nginx memory redis stopped flask"

needs_programs "measuring the jump" awk curl nginx redis-server redis-cli sort taskset wrk python3
[ "$(nproc)" -ge 2 ] || skip "measuring the jump needs two processors"
# Debian's, which has the packages, or another one that has them.
for python in /usr/bin/python3 python3 ""; do
    [ -n "$python" ] || skip "measuring the jump needs Python's flask, hypercorn and redis (make deps)"
    "$python" -c 'import flask, hypercorn, redis' 2>/dev/null && break
done

if [ -z "${PROGRAMS_DIR:-}" ]; then
    PROGRAMS_DIR=$("$top/packaging/check/target-dir.sh")/release
    export PROGRAMS_DIR
    (cd "$top" && cargo build --release --locked --package tuyun-jump) || die "the jump does not build"
fi

make_work
trap end_world EXIT
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

# A process and all that come from it.
family() {
    local child
    echo "$1"
    for child in $(pgrep -P "$1"); do family "$child"; done
}

# Nanoseconds on a processor, of all threads that live.
cpu() {
    local pid
    for pid in $(family "$1"); do cat "/proc/$pid"/task/*/schedstat 2>/dev/null; done |
        awk '{ all += $1 } END { printf "%.0f\n", all }'
}

server="taskset -c 0"
asker="taskset -c 1"
path=/mount/pic/2026/11/27/6b03ba41dfda1.webp
node=https://node.example/

nginx=$(free_port)
mkdir "$work/nginx"
cat >"$work/nginx.conf" <<SETTINGS
worker_processes 1;
daemon off;
pid $work/nginx/pid;
error_log stderr;
$([ "$(id -u)" = 0 ] && echo "user root;")
events { worker_connections 4096; }
http {
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path $work/nginx/body;
    proxy_temp_path $work/nginx/temp;
    fastcgi_temp_path $work/nginx/fastcgi;
    uwsgi_temp_path $work/nginx/uwsgi;
    scgi_temp_path $work/nginx/scgi;
    server { listen 127.0.0.1:$nginx backlog=1024;
        location / { add_header Cache-Control no-store; add_header Access-Control-Allow-Origin *;
            return 302 $node\$request_uri; } }
}
SETTINGS
start nginx $server nginx -c "$work/nginx.conf" -p "$work/nginx"
nginx_process=$started

# start_redis <name>: on the servers' processor, as its user would have it.
start_redis() {
    local port
    port=$(free_port)
    mkdir "$work/$1"
    start "$1" $server redis-server --port "$port" --bind 127.0.0.1 --save "" --appendonly no --dir "$work/$1"
    until redis-cli -p "$port" ping >/dev/null 2>&1; do sleep 0.05; done
    redis-cli -p "$port" -n 2 set jump_1 "$node" >/dev/null
    redis_port=$port
}

# start_jump <name> <redis>
start_jump() {
    local port control
    port=$(free_port)
    control=$(free_port)
    TUYUN_LOG=warn start "$1" $server "$PROGRAMS_DIR/tuyun-jump" serve --config /dev/null \
        --listen "127.0.0.1:$port" --control.listen "127.0.0.1:$control" --origin https://origin.example/ \
        --limit.redirect-per-second 0 --limit.update-per-second 0 --redis "$2" --snapshot "" \
        --nodes.figures 0s --nodes.token-file "$work/tokens"
    printf -v "$1" %s "$port"
    printf -v "$1_process" %s "$started"
}

echo '* word' >"$work/tokens"
start_jump memory ""
start_redis redis-kept
start_jump redis "redis://127.0.0.1:$redis_port/"
flask=$(free_port)
REDIS=$redis_port ORIGIN=https://origin.example/ PYTHONPATH=$top/tests/bench PYTHONDONTWRITEBYTECODE=1 \
    start flask $server "$python" -m hypercorn --bind "127.0.0.1:$flask" --log-level error jump_peer:served
flask_process=$started
start_redis redis-stopped
stopped_redis=$started
start_jump stopped "redis://127.0.0.1:$redis_port/"

ready memory "$memory_process" "http://127.0.0.1:$memory/_api/health"
curl -fsS -H 'content-type: application/json' \
    -d "{\"token\":\"word\",\"server_id\":1,\"url\":\"$node\"}" "http://127.0.0.1:$memory/_api/update" \
    >/dev/null || die "the jump takes no node"
for peer in $peers; do
    for _ in $(seq 200); do
        sent=$(curl -sS -o /dev/null -w '%{redirect_url}' "http://127.0.0.1:${!peer}$path" 2>/dev/null)
        [[ $sent = https://node.example/* ]] && break
        sleep 0.05
    done
    [[ $sent = https://node.example/* ]] || die "$peer sends visitors to '$sent'"
done
kill "$stopped_redis"
sleep 3
sent=$(curl -sS -o /dev/null -w '%{redirect_url}' "http://127.0.0.1:$stopped$path")
[ "$sent" = "${node%/}$path" ] || die "with Redis stopped visitors are sent to '$sent'"

# ask <peer> <connections>: answers a second, p99 in microseconds, microseconds of processor an answer.
ask() {
    local process=${1}_process before after told
    before=$(cpu "${!process}")
    told=$($asker wrk -t 1 -c "$2" -d "${seconds}s" --latency "http://127.0.0.1:${!1}$path") ||
        die "$1 cannot be measured"
    after=$(cpu "${!process}")
    awk -v a="$before" -v b="$after" '
        function micros(t) { return t ~ /us$/ ? t + 0 : t ~ /ms$/ ? t * 1000 : t * 1000000 }
        /Non-2xx|Socket errors/ { bad = 1 }
        $1 == "99%" { p99 = micros($2) }
        / requests in / { n = $1 }
        /Requests\/sec/ { rate = $2 }
        END { if (bad || !n) exit 1; printf "%s %d %.2f\n", rate, p99, (b - a) / n / 1000 }' <<<"$told" ||
        die "$1 fails: $told"
}

# ratio <field> <file over> <file under>: median of the rounds' ratios.
ratio() { paste -d ' ' "$2" "$3" | awk -v f="$1" '{ print $f / $(f + 3) }' | median; }

echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg)" >&2
echo "| connections | jump's nodes | jump, redirects a second | ÷ nginx | ÷ Flask | a processor second ÷ nginx | ÷ Flask | p99, µs: jump, nginx, Flask | processor a redirect, µs: jump, nginx, Flask |"
echo "|---|---|---|---|---|---|---|---|---|"
for count in $connections; do
    rm -f "$work"/figures.*
    for peer in $peers; do ask "$peer" "$count" >"$work/none"; done
    for round in $(seq "$rounds"); do
        for peer in $peers; do ask "$peer" "$count" >>"$work/figures.$peer"; done
    done
    n=$work/figures.nginx f=$work/figures.flask
    for peer in memory redis stopped; do
        j=$work/figures.$peer
        said=$peer
        [ "$peer" = redis ] && said="Redis"
        [ "$peer" = stopped ] && said="Redis, stopped"
        three() { for file in "$j" "$n" "$f"; do cut -d ' ' -f "$1" "$file" | median; done | paste -s -d ' ' | sed 's/ /, /g'; }
        printf '| %s | %s | %.0f | %.2f | %.0f | %.2f | %.0f | %s | %s |\n' "$count" "$said" \
            "$(cut -d ' ' -f 1 "$j" | median)" "$(ratio 1 "$j" "$n")" "$(ratio 1 "$j" "$f")" \
            "$(ratio 3 "$n" "$j")" "$(ratio 3 "$f" "$j")" \
            "$(three 2)" "$(three 3)"
    done
done
echo "load after: $(cut -d ' ' -f 1-3 /proc/loadavg)" >&2
