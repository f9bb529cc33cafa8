#!/bin/sh
# run.sh PROGRAM FAKE_DIR: runs one sanitized program with a ledger of its own.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
PYTHONPATH=.. "${PYTHON:-python3}" - "$folder/ledger" <<'PY'
import sys
from kerf.wire.limiter import CardLimit, LedgerSpec, render_ledger
open(sys.argv[1], "wb").write(render_ledger(LedgerSpec((CardLimit("0", 64 << 20, 50),))))
PY
KERF_LEDGER=$folder/ledger FAKE_GPU=$folder/gpu LD_LIBRARY_PATH=$2 ASAN_OPTIONS=detect_leaks=0 \
TSAN_OPTIONS="suppressions=tests/sanitize/tsan.supp" setarch -R "$1"
