#!/usr/bin/env bash
# benchmarks/gpu/run.sh 1|2|3 [--dry-run]: one part of the GPU benchmark (bench.py says what each measures),
# each under nine minutes. Needs one NVIDIA card, gcc, Python >= 3.12 with PyTorch, Triton and pynvml.
# Writes OUT/partN.json and prints a table. --dry-run: on the fake driver, no card and no PyTorch needed.
# benchmarks/gpu/run.sh 4|5: inference tenants (inference.py) on one card, on two; prints JSON lines. On a machine that is
# lent for ten minutes a command: KERF_BENCH_REQUESTS=2000 KERF_BENCH_BUDGET=540 run.sh 4, again until its last line says
# "left": 0. Runs are kept in OUT/part4.runs.jsonl; `run.sh 4 pool FILE...` pools those of several machines, without a card.
# benchmarks/gpu/run.sh 6: whether models fit the slices that they are estimated (models.py); needs transformers too.
# benchmarks/gpu/run.sh 7: what the MPS daemon does with users, namespaces, rights, limits, deaths and faults (mps.py).
# benchmarks/gpu/run.sh 8 [--dry-run]: the open rows of issue 11 (targets.py) in one call of at most ten minutes, on one card or, with
# the tensor-parallel pairs, on two. The last line says pass or miss. KERF_BENCH_BEFORE=limiter/build/before.so: beside an
# older libkerf.so (build it at an older commit, copy it there, and carry limiter/build/before.so to the card's machine).
set -euo pipefail
cd "$(dirname "$0")/../.."
part=${1:?part 1 to 8} dry=${2:-}
export OUT=${OUT:-$PWD/build/gpu-bench} PYTHONUNBUFFERED=1
bin=limiter/build/gpu
mkdir -p "$bin" "$OUT"

# Build here; if that fails, use the carried build.
if ! make -s -C limiter all; then
    [ -f limiter/build/libkerf.so ] || { echo "no compiler and no libkerf.so"; exit 2; }
    echo "using the libkerf.so that was carried"
fi
export KERF_LIBRARY=$PWD/limiter/build/libkerf.so KERF_BENCH_BIN=$PWD/$bin

find_libcuda() {
    libcuda=$(ldconfig -p | awk '/libcuda\.so\.1/ { print $NF; exit }')
    for place in /usr/local/nvidia/lib64 /usr/local/nvidia/lib /usr/lib/x86_64-linux-gnu /usr/lib64; do
        [ -n "$libcuda" ] || { [ -f "$place/libcuda.so.1" ] && libcuda=$place/libcuda.so.1; } || true
    done
}
flags="-std=gnu11 -D_GNU_SOURCE -O2 -Ilimiter/include -Ilimiter/src -Ilimiter/tests/fake"

if [ "$part" = 8 ]; then
    [ -z "${KERF_BENCH_BEFORE:-}" ] || export KERF_BENCH_BEFORE=$(realpath -e "$KERF_BENCH_BEFORE")
    if [ "$dry" = --dry-run ]; then
        make -s -C limiter programs
        libcuda=limiter/build/fake/libcuda.so.1
        export KERF_BENCH_DRY=1 LD_LIBRARY_PATH=$PWD/limiter/build/fake FAKE_CARDS=2 FAKE_GPU=$OUT/gpu KERF_BENCH_SCALE=${KERF_BENCH_SCALE:-0.05}
        export CUDA_VISIBLE_DEVICES=GPU-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadae00,GPU-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadae01
        mkdir -p "$bin/dry"
        printf '#!/bin/sh\n' > "$bin/dry/nvidia-cuda-mps-control"
        chmod +x "$bin/dry/nvidia-cuda-mps-control"
        export PATH=$PWD/$bin/dry:$PATH
        rm -f "$FAKE_GPU"
    else
        nvidia-smi --query-gpu=name,driver_version,clocks.sm --format=csv || true
        find_libcuda
    fi
    gcc $flags -o "$bin/from_rest" benchmarks/gpu/from_rest.c limiter/src/arbiter/decide.c "$libcuda" -Wl,--allow-shlib-undefined -ldl -lpthread
    exec "${PYTHON:-python3}" benchmarks/gpu/targets.py
fi

if [ "$part" -ge 4 ]; then
    [ "${2:-}" != pool ] || exec python3 benchmarks/gpu/inference.py "$@"
    nvidia-smi --query-gpu=name,driver_version,clocks.sm --format=csv || true
    if [ "$part" = 7 ]; then
        cuda=$(dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)")")")
        library=$(ldconfig -p | awk '/libcuda\.so\.1/ { print $NF; exit }')
        [ -n "$library" ] || library=$(ls /usr/local/nvidia/lib64/libcuda.so.1 /usr/lib/x86_64-linux-gnu/libcuda.so.1 2>/dev/null | head -1)
        gcc -O2 -I"$cuda/include" -o "$bin/mps_client" benchmarks/gpu/mps_client.c "$library" -Wl,--allow-shlib-undefined
        exec python3 benchmarks/gpu/mps.py
    fi
    [ "$part" != 6 ] || exec python3 benchmarks/gpu/models.py
    exec python3 benchmarks/gpu/inference.py "$@"
fi

if [ "$dry" = --dry-run ]; then
    make -s -C limiter programs
    libcuda=limiter/build/fake/libcuda.so.1
    export KERF_BENCH_DRY=1 LD_LIBRARY_PATH=$PWD/limiter/build/fake FAKE_MEMORY_MIB=81920 FAKE_CONTEXT_MIB=16
    export KERF_BENCH_UUID=GPU-a0a1a2a3-a4a5-a6a7-a8a9-aaabacadae00
else
    nvidia-smi || true
    find_libcuda
    export KERF_BENCH_UUID=$(nvidia-smi --query-gpu=uuid --format=csv,noheader | head -1)
    nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv || true
fi
for program in memory launch busy facts; do
    gcc $flags -o "$bin/$program" "benchmarks/gpu/$program.c" "$libcuda" -Wl,--allow-shlib-undefined -ldl -lpthread
done
python3 benchmarks/gpu/bench.py "$part" && status=0 || status=$?
[ "$dry" = --dry-run ] || nvidia-smi --query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw --format=csv || true
exit $status
