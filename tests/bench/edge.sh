#!/bin/bash
# How fast the edge serves what it holds, beside nginx's `proxy_cache` and Varnish as Debian has them,
# all three over one origin with the same pictures.
#
#   edge.sh [rounds] [seconds]     default: 5 1
#
# The servers have the first processor, whoever asks has the second: with more of both, who waits for
# whom would be measured. Each round asks one after the other, so that what else the machine does
# hits all; the median of the rounds' ratios counts. `load` drops bodies inside the kernel, `wrk` copies
# them. A second table is of answers over TLS, by what they cost the processor, since there the asker
# works harder than any server. Prints tables for docs/benchmarks.md.
#
# nginx: `tcp_nopush off`, since with it on bodies of 65 to 130 KB stall for 44 ms over loopback.
set -u -o pipefail
# shellcheck source=packaging/check/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../packaging/check/lib.sh"

rounds=${1:-5}
seconds=${2:-1}
sizes="${BENCH_SIZES:-10000 100000 1000000 10000000}"
connections="${BENCH_CONNECTIONS:-1 16 128}"
peers="edge nginx varnish"

needs_programs "measuring the edge" awk curl nginx openssl sort taskset varnishd wrk
[ "$(nproc)" -ge 2 ] || skip "measuring the edge needs two processors"

if [ -z "${PROGRAMS_DIR:-}" ]; then
    PROGRAMS_DIR=$("$top/packaging/check/target-dir.sh")/release
    export PROGRAMS_DIR
    (cd "$top" && cargo build --release --locked --package tuyun-edge --package tuyun-tests \
        --bin tuyun-edge --bin load) || die "the programs do not build"
fi

make_work
trap end_world EXIT
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"

median() { sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }

# The process and those it has started.
family() { echo "$1" $(pgrep -P "$1") | tr ' ' ','; }

server="taskset -c 0"
asker="taskset -c 1"

# nginx_settings <name> <server's lines>: with nothing of Debian's own settings.
nginx_settings() {
    mkdir "$work/$1"
    cat >"$work/$1.conf" <<SETTINGS
worker_processes 1;
daemon off;
pid $work/$1/pid;
error_log stderr;
$([ "$(id -u)" = 0 ] && echo "user root;")
events { worker_connections 4096; }
http {
    access_log off;
    types { image/webp webp; }
    sendfile on;
    tcp_nopush off;
    keepalive_requests 1000000000;
    client_body_temp_path $work/$1/body;
    proxy_temp_path $work/$1/temp;
    fastcgi_temp_path $work/$1/fastcgi;
    uwsgi_temp_path $work/$1/uwsgi;
    scgi_temp_path $work/$1/scgi;
    $2
}
SETTINGS
}

mkdir "$work/pictures"
for size in $sizes; do
    # Begins like a picture and is of no use to a compressor.
    { printf 'RIFF\0\0\0\0WEBPVP8 ' && head -c "$((size - 16))" /dev/urandom; } \
        >"$work/pictures/$size.webp"
done
origin=$(free_port)
nginx_settings origin "server { listen 127.0.0.1:$origin; root $work/pictures;
        add_header Cache-Control 'public, max-age=86400'; }"
start origin nginx -c "$work/origin.conf" -p "$work/origin"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/log/openssl.log" ||
    die "no certificate: $(cat "$work/log/openssl.log")"

nginx=$(free_port)
nginx_tls=$(free_port)
nginx_settings nginx "proxy_cache_path $work/nginx/cache keys_zone=c:10m max_size=1g;
    ssl_certificate $work/cert.pem; ssl_certificate_key $work/key.pem; ssl_protocols TLSv1.3;
    server { listen 127.0.0.1:$nginx backlog=1024; listen 127.0.0.1:$nginx_tls ssl backlog=1024; location / {
        proxy_pass http://127.0.0.1:$origin; proxy_cache c; proxy_cache_lock on; } }"
start nginx $server nginx -c "$work/nginx.conf" -p "$work/nginx"
nginx_process=$started

varnish=$(free_port)
start varnish $server varnishd -F -n "$work/varnish" -a "127.0.0.1:$varnish" -T none -j none \
    -b "127.0.0.1:$origin" -s malloc,256m
varnish_process=$started

edge=$(free_port)
control=$(free_port)
TUYUN_LOG=warn start edge $server "$PROGRAMS_DIR/tuyun-edge" serve --listen "127.0.0.1:$edge" \
    --control.listen "127.0.0.1:$control" --origin.primary "http://127.0.0.1:$origin/" \
    --cache.dir "$work/edge" --limit.per-second 0 --config /dev/null
edge_process=$started

edge_tls=$(free_port)
control=$(free_port)
TUYUN_LOG=warn start edge-tls $server "$PROGRAMS_DIR/tuyun-edge" serve --listen "127.0.0.1:$edge_tls" \
    --control.listen "127.0.0.1:$control" --origin.primary "http://127.0.0.1:$origin/" \
    --cache.dir "$work/edge-tls" --limit.per-second 0 --config /dev/null \
    --tls.cert "$work/cert.pem" --tls.key "$work/key.pem"
edge_tls_process=$started
nginx_tls_process=$nginx_process

smallest=${sizes%% *}
for peer in $peers; do
    process=${peer}_process
    ready "$peer" "${!process}" "http://127.0.0.1:${!peer}/$smallest.webp"
    for size in $sizes; do
        # Fetched twice, the second time from what is held.
        for n in 1 2; do
            curl -fsS --max-time 30 "http://127.0.0.1:${!peer}/$size.webp" |
                cmp -s - "$work/pictures/$size.webp" || die "$peer serves a wrong picture"
        done
    done
done

# ask <peer> <size> <connections>: answers a second, p50, p99, processor and memory as `load` prints
# them, then answers a second as `wrk` counts them.
ask() {
    local peer=$1 size=$2 connections=$3 process=${1}_process copied
    $asker "$PROGRAMS_DIR/load" "127.0.0.1:${!peer}" "/$size.webp" "$connections" "$seconds" "$size" \
        "$(family "${!process}")" | tr '\n' ' ' || die "$peer cannot be measured"
    copied=$($asker wrk -t 1 -c "$connections" -d "${seconds}s" \
        "http://127.0.0.1:${!peer}/$size.webp" |
        awk '/Non-2xx|Socket errors/ { exit 1 } /Requests\/sec/ { print $2 }') ||
        die "$peer fails under wrk"
    echo "$copied"
}

# ratio <field> <file over> <file under>: median of the rounds' ratios.
ratio() { paste -d ' ' "$2" "$3" | awk -v f="$1" '{ print $f / $(f + 6) }' | median; }

echo "load before: $(cut -d ' ' -f 1-3 /proc/loadavg)" >&2
echo "| picture | connections | nginx, answers a second | edge ÷ nginx | by wrk | Varnish ÷ nginx | by wrk | edge ÷ nginx: processor an answer | p99 | resident MiB: edge, nginx, Varnish |"
echo "|---|---|---|---|---|---|---|---|---|---|"
for size in $sizes; do
    for count in $connections; do
        rm -f "$work"/figures.*
        for peer in $peers; do ask "$peer" "$size" "$count" >"$work/none"; done
        for round in $(seq "$rounds"); do
            for peer in $peers; do
                ask "$peer" "$size" "$count" >>"$work/figures.$peer"
            done
        done
        e=$work/figures.edge n=$work/figures.nginx v=$work/figures.varnish
        printf '| %s KB | %s | %s | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %s |\n' \
            "$((size / 1000))" "$count" "$(cut -d ' ' -f 1 "$n" | median)" \
            "$(ratio 1 "$e" "$n")" "$(ratio 6 "$e" "$n")" \
            "$(ratio 1 "$v" "$n")" "$(ratio 6 "$v" "$n")" \
            "$(ratio 4 "$e" "$n")" "$(ratio 3 "$e" "$n")" \
            "$(for f in "$e" "$n" "$v"; do cut -d ' ' -f 5 "$f" | median; done |
                awk '{ printf "%s%d", (NR > 1 ? ", " : ""), $1 / 1024 }')"
    done
done

# Nanoseconds on a processor, of all threads that live.
cpu() {
    local pid
    for pid in ${1//,/ }; do cat "/proc/$pid"/task/*/schedstat 2>/dev/null; done |
        awk '{ all += $1 } END { printf "%.0f\n", all }'
}

# ask_tls <peer> <size> <connections>: microseconds of processor an answer.
ask_tls() {
    local port=${1}_tls process=${1}_tls_process before after answers
    before=$(cpu "$(family "${!process}")")
    answers=$($asker wrk -t 1 -c "$3" -d "${seconds}s" "https://127.0.0.1:${!port}/$2.webp" |
        awk '/Non-2xx|Socket errors/ { exit 1 } / requests in / { print $1 }') ||
        die "$1 fails over TLS"
    after=$(cpu "$(family "${!process}")")
    awk -v a="$before" -v b="$after" -v n="$answers" 'BEGIN { printf "%.2f\n", (b - a) / n / 1000 }'
}

echo
echo "| over TLS | connections | nginx, µs of processor an answer | edge, answers a processor second ÷ nginx |"
echo "|---|---|---|---|"
for size in $sizes; do
    for count in $connections; do
        rm -f "$work"/figures.*
        for peer in edge nginx; do ask_tls "$peer" "$size" "$count" >"$work/none"; done
        for round in $(seq "$rounds"); do
            for peer in edge nginx; do
                ask_tls "$peer" "$size" "$count" >>"$work/figures.$peer"
            done
        done
        printf '| %s KB | %s | %s | %.2f |\n' "$((size / 1000))" "$count" \
            "$(median <"$work/figures.nginx")" \
            "$(paste -d ' ' "$work/figures.nginx" "$work/figures.edge" |
                awk '{ print $1 / $2 }' | median)"
    done
done
echo "load after: $(cut -d ' ' -f 1-3 /proc/loadavg)" >&2
