#!/usr/bin/env bash
# Fuzzes: tests/fuzz/run.sh "TARGETS" SECONDS, with `all` for all targets. For each it prints executions, executions a
# second, coverage (edges reached), inputs kept, the greatest memory and findings; it fails if anything was found.
# New inputs stay in target/fuzz-corpus, findings in tests/fuzz/artifacts. `tests/fuzz/run.sh minimise "TARGETS"` takes what
# of all inputs reaches something of its own over into tests/fuzz/corpus. It needs cargo-fuzz and a nightly compiler.
set -euo pipefail
cd "$(dirname "$0")/../.."
fuzz=tests/fuzz
toolchain=${NIGHTLY:-nightly-$(rustc -vV | sed -n 's/^host: //p')}
cargo=${CARGO:-cargo}
found=0

mode=fuzz
if [ "${1:-}" = minimise ]; then
    mode=minimise
    shift
fi
targets=${1:?targets, or all}
seconds=${2:-30}
if [ "$targets" = all ]; then
    targets=$(sed -n 's/^name = "\([a-z]*\)"$/\1/p' $fuzz/Cargo.toml)
fi

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# No sanitizer: there is no unsafe code here, and the targets hold themselves to their rules.
"$cargo" "+$toolchain" fuzz build --fuzz-dir $fuzz --sanitizer none >&2
host=$(rustc -vV | sed -n 's/^host: //p')
built=$CARGO_TARGET_DIR/$host/release

if [ $mode = minimise ]; then
    for target in $targets; do
        into=$(mktemp -d)
        "$built/$target" -merge=1 -max_len=4096 "$into" "$fuzz/corpus/$target" target/fuzz-corpus/"$target" 2>/dev/null
        # Some of them, up to 6 KiB a target, beside those that are there.
        mkdir -p "$fuzz/corpus/$target"
        total=0
        while read -r size path; do
            total=$((total + size))
            [ $total -gt 6144 ] && break
            cp "$path" "$fuzz/corpus/$target/"
        done < <(find "$into" -type f -size -2 -printf '%s %p\n' | sort -k2)
        echo "$target: $(find "$fuzz/corpus/$target" -type f | wc -l) inputs, $(du -sb "$fuzz/corpus/$target" | cut -f1) bytes"
        rm -rf "$into"
    done
    exit 0
fi

printf '%-14s %12s %9s %9s %8s %7s %9s\n' target executions per_s coverage inputs mb findings
for target in $targets; do
    mkdir -p target/fuzz-corpus/"$target" $fuzz/artifacts/"$target"
    log=target/fuzz-corpus/$target.log
    status=0
    "$built/$target" -max_total_time="$seconds" -print_final_stats=1 -max_len=8192 -timeout=10 -rss_limit_mb=2048 \
        -artifact_prefix="$fuzz/artifacts/$target/" target/fuzz-corpus/"$target" $fuzz/corpus/"$target" \
        >"$log" 2>&1 || status=$?
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
    coverage=$(grep -o 'cov: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    kept=$(grep -o 'corp: [0-9]*' "$log" | tail -1 | cut -d' ' -f2)
    findings=$(find $fuzz/artifacts/"$target" -type f | wc -l)
    printf '%-14s %12s %9s %9s %8s %7s %9s\n' "$target" "$(stat number_of_executed_units)" \
        "$(stat average_exec_per_sec)" "${coverage:-0}" "${kept:-0}" "$(stat peak_rss_mb)" "$findings"
    if [ $status -ne 0 ] || [ "$findings" -ne 0 ]; then
        found=1
        grep -m3 -E 'panicked|ERROR|SUMMARY' "$log" || true
    fi
done
exit $found
