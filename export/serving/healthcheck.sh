#!/usr/bin/env bash
# healthcheck.sh PORT MODEL: succeeds while a version of the model answers. For the server's image, which has neither
# curl nor wget.
set -u
exec 3<> "/dev/tcp/127.0.0.1/$1" || exit 1
printf 'GET /v1/models/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
timeout 3 grep --quiet '"AVAILABLE"' <&3
