#!/bin/bash
# SPDX-License-Identifier: MIT
# redis-server on the allocator that is preloaded, under redis-benchmark over a socket. usage: redis.sh THOUSANDS (of requests of each kind)
# Debian's redis-server brings jemalloc along; without a preload libc itself is preloaded, so that its malloc comes first.
set -euo pipefail
folder=$(mktemp -d)
server=
trap '[[ -z $server ]] || kill "$server"; rm -rf "$folder"' EXIT
preload=${LD_PRELOAD:-libc.so.6}
unset LD_PRELOAD
LD_PRELOAD=$preload redis-server --port 0 --unixsocket "$folder/socket" --dir "$folder" --save "" --appendonly no --daemonize no >"$folder/log" 2>&1 &
server=$!
for _ in {1..200}; do
    [[ -S $folder/socket ]] && break
    sleep 0.02
done
redis-benchmark -s "$folder/socket" -q -c 20 -P 32 -r 100000 -d 200 -n "$((${1:-100} * 1000))" -t set,get,incr,lpush,lpop,sadd,hset,mset >"$folder/result"
echo "redis: $((${1:-100} * 1000)) requests of each kind"
redis-cli -s "$folder/socket" shutdown nosave >/dev/null 2>&1 || true
wait "$server" || true
server=
