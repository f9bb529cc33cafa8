#!/bin/sh
# run.sh BUILD: what Kerf adds to a launch and to an allocate+free pair, over a fake driver that does nothing.
# The last line is one JSON object; exit 1 when a target is missed.
set -eu
build=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
${CC:-gcc} -std=gnu11 -D_GNU_SOURCE -O2 -Iinclude -Isrc -Itests/fake -o "$folder/cost" bench/cost.c -L"$build/fake" \
    -l:libcuda.so.1 -Wl,-rpath,"$PWD/$build/fake"
PYTHONPATH=.. exec "${PYTHON:-python3}" bench/report.py "$build/libkerf.so" "$folder"
