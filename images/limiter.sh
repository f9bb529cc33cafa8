#!/bin/sh
# Builds libkerf.so for amd64 or arm64, cross-compiling on the other one. Fails if the result would not load on
# glibc 2.28, the oldest version that Kerf supports in containers.   usage: images/limiter.sh amd64|arm64 OUT
set -eu
case $1 in
    amd64) triple=x86_64-linux-gnu ;;
    arm64) triple=aarch64-linux-gnu ;;
    *) echo "limiter.sh: $1: use amd64 or arm64" >&2; exit 2 ;;
esac
tool=
[ "$(gcc -dumpmachine)" = "$triple" ] || tool=$triple-
make -C "$(dirname "$0")/../limiter" all CC="${tool}gcc" BUILD="$2"
"${tool}strip" --strip-debug "$2/libkerf.so"
newest=$("${tool}readelf" -V "$2/libkerf.so" | grep -oE 'GLIBC_2\.[0-9]+' | sort -uV | tail -1)
[ "$(printf '%s\nGLIBC_2.28\n' "$newest" | sort -V | tail -1)" = GLIBC_2.28 ] || {
    echo "limiter.sh: libkerf.so for $1 needs $newest: see limiter/src/base/compat.h" >&2; exit 1; }
