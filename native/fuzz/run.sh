#!/bin/sh
# Runs each target of this folder for so many minutes: run.sh MINUTES, in a checkout. Needs clang (CC names another one),
# and what edgellm's tests need, which write the files to begin with. A finding ends it and is kept as fuzz-TARGET-*.
set -eu
minutes=${1:?"usage: $0 MINUTES"}
cd "$(dirname "$0")/../.."
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
"${PYTHON:-python3}" -m tests.native.fuzz_seeds "$made"
for corpus in "$made"/*; do
    target=${corpus##*/}
    "${CC:-clang}" -std=c11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -ffp-contract=off \
        -Inative/include -Inative/src native/src/*.c "native/fuzz/$target.c" -o "$made/fuzz-$target" -lm -lpthread -ldl
    "$made/fuzz-$target" -seed=1 -max_total_time=$((minutes * 60)) -timeout=10 -rss_limit_mb=2048 -verbosity=0 \
        -print_final_stats=1 -artifact_prefix="fuzz-$target-" "$corpus"
    echo "$target: $minutes minutes without a finding"
done
