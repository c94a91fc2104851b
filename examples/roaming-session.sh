#!/bin/sh
# A client writes in one region and reads in another at once: with its session's token it finds what it wrote;
# without it, it may not.
set -eu
US=${US:-http://127.0.0.1:7101}
AP=${AP:-http://127.0.0.1:7301}
US_REGION=${US_REGION:-us-east}
AP_REGION=${AP_REGION:-ap-northeast}
KEY=profile-$(date +%s)-$$

say() { printf '\n%s\n' "$*"; }
# The header of a file of headers, whatever its case.
header() { tr -d '\r' <"$2" | grep -i "^$1:" | tail -n 1 | cut -d' ' -f2; }
# Reads in the other region; prints status, value or error, and how long it took.
read_there() {
  curl -sS -o "$TMP/body" -w '%{http_code} after %{time_total} s: ' "$@" "$AP/v1/kv/default/$KEY"
  head -c 200 "$TMP/body" && echo
}
link() {
  curl -sS -f -d "{\"cut\":$1}" "$US/v1/dev/links/$US_REGION/*" >"$TMP/link"
}

TMP=$(mktemp -d)
trap 'link false || true; rm -rf "$TMP"' EXIT

say "Ada writes in $US_REGION, and reads in $AP_REGION at once."
curl -sS -f -D "$TMP/head" -X PUT --data-binary 'Ada' "$US/v1/kv/default/$KEY"
SESSION=$(header sterna-session "$TMP/head")
printf 'without the token: ' && read_there
printf 'with the token:    ' && read_there -H "Sterna-Session: $SESSION" -H 'Sterna-Wait: 10s'
test "$(cat "$TMP/body")" = Ada

say "The links of $US_REGION are cut. Ada writes there again, and reads in $AP_REGION."
link true
curl -sS -f -D "$TMP/head" -X PUT --data-binary 'Ada Lovelace' "$US/v1/kv/default/$KEY"
SESSION=$(header sterna-session "$TMP/head")
printf 'without the token: ' && read_there
printf 'with the token:    ' && read_there -H "Sterna-Session: $SESSION" \
  -H 'Sterna-Wait: 500ms' -H 'Sterna-When-Behind: refuse'

say "Healed, and waited until every region has it; then the token is not needed any more."
link false
curl -sS -f -H "Sterna-Session: $SESSION" -H 'Sterna-Timeout: 30s' "$US/v1/wait?region=all" && echo
printf 'without the token: ' && read_there
test "$(cat "$TMP/body")" = 'Ada Lovelace'
