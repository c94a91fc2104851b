#!/bin/sh
# A shopping cart that two regions change while the link between them is cut: once as a set, which merges by
# itself, and once as a value in a keyspace of siblings, which this program merges.
set -eu
US=${US:-http://127.0.0.1:7101}
EU=${EU:-http://127.0.0.1:7201}
US_REGION=${US_REGION:-us-east}
EU_REGION=${EU_REGION:-eu-west}
KEY=cart-$(date +%s)-$$

say() { printf '\n%s\n' "$*"; }
ask() { curl -sS -f "$@"; }
add() { ask -d "{\"add\":[\"$3\"]}" "$1/v1/set/default/$2"; }
remove() { ask -d "{\"remove\":[\"$3\"]}" "$1/v1/set/default/$2"; }
members() { ask "$1/v1/set/default/$2"; echo; }
# The header of a file of headers, whatever its case.
header() { tr -d '\r' <"$2" | grep -i "^$1:" | tail -n 1 | cut -d' ' -f2; }
link() {
  ask -d "{\"cut\":$1}" "$US/v1/dev/links/$US_REGION/*" >"$TMP/link"
}

TMP=$(mktemp -d)
trap 'link false || true; rm -rf "$TMP"' EXIT

say "1. A set. Milk and tea are in it, in both regions."
ask -D "$TMP/head" -d '{"add":["milk","tea"]}' "$US/v1/set/default/$KEY"
SESSION=$(header sterna-session "$TMP/head")
ask -H "Sterna-Session: $SESSION" -H 'Sterna-Timeout: 30s' "$US/v1/wait?region=all" >"$TMP/wait"
members "$EU" "$KEY"

say "The links of $US_REGION are cut. There tea is removed and salt added; in $EU_REGION tea is added once more."
link true
remove "$US" "$KEY" tea
add "$US" "$KEY" salt
ask -D "$TMP/head" -d '{"add":["tea"]}' "$EU/v1/set/default/$KEY"
printf '%s: ' "$US_REGION" && members "$US" "$KEY"
printf '%s: ' "$EU_REGION" && members "$EU" "$KEY"

say "After the heal both have all three: an add wins over a remove that had not seen it."
link false
SESSION=$(header sterna-session "$TMP/head")
ask -H "Sterna-Session: $SESSION" -H 'Sterna-Timeout: 30s' "$EU/v1/wait?region=all" >"$TMP/wait"
members "$US" "$KEY"

say "2. A value in a keyspace of siblings, written in both regions while the links are cut."
link true
ask -X PUT --data-binary 'milk' "$US/v1/kv/siblings/$KEY"
ask -D "$TMP/head" -X PUT --data-binary 'tea' "$EU/v1/kv/siblings/$KEY"
link false
SESSION=$(header sterna-session "$TMP/head")
ask -H "Sterna-Session: $SESSION" -H 'Sterna-Timeout: 30s' "$EU/v1/wait?region=all" >"$TMP/wait"

say "A read shows both (300), and a context that stands for them."
ask -D "$TMP/head" "$US/v1/kv/siblings/$KEY" >"$TMP/body"
cat "$TMP/body" && echo
CONTEXT=$(header sterna-context "$TMP/head")

say "What this program makes of them, it writes with that context:"
grep -o '"value":"[^"]*"' "$TMP/body" | cut -d'"' -f4 | while read -r value; do
  printf '%s' "$value" | base64 -d && echo
done | sort | paste -sd, - | tr -d '\n' >"$TMP/merged"
ask -X PUT --data-binary "@$TMP/merged" -H "Sterna-Context: $CONTEXT" "$US/v1/kv/siblings/$KEY"
ask -o "$TMP/body" -w '%{http_code}: ' "$US/v1/kv/siblings/$KEY"
cat "$TMP/body" && echo
test "$(cat "$TMP/body")" = 'milk,tea'
