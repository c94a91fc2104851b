#!/bin/sh
# A counter of likes. Each like has a name of its own, its Idempotency-Key; a client that got no answer sends
# it again, to another node or region, and it counts once.
set -eu
# Nodes in the order in which this client tries them.
NODES=${NODES:-http://127.0.0.1:7101 http://127.0.0.1:7102 http://127.0.0.1:7201}
US=${US:-http://127.0.0.1:7101}
EU=${EU:-http://127.0.0.1:7201}
KEY=likes-$(date +%s)-$$

say() { printf '\n%s\n' "$*"; }
value() { curl -sS -f -H "Sterna-Consistency: each_quorum" "$1/v1/counter/default/$KEY"; echo; }

# Sends a like, named first, to one node after the other, until one answers. 429 and 503 and no answer at all
# mean: again.
like() {
  name=$1
  shift
  for node in "$@"; do
    code=$(curl -sS -o /dev/null -w '%{http_code}' --max-time 5 -d '{"add":1}' \
      -H "Idempotency-Key: $name" "$node/v1/counter/default/$KEY") || code=none
    printf 'like %s at %s: %s\n' "$name" "$node" "$code"
    case $code in
      204) return 0 ;;
      429 | 503 | none) ;;
      *) return 1 ;;
    esac
  done
  return 1
}

say "Three likes."
for who in ada bo cy; do
  like "$who" $NODES
done
value "$US"

say "The answer to ada's like was lost on its way, says ada's client, and sends it to every node there is."
for one in $NODES; do
  like ada "$one"
done

say "It is still three, in all regions."
value "$US"
value "$EU"
test "$(value "$EU")" = '{"value":3}'

say "Without an Idempotency-Key the same would count twice:"
for node in $US $EU; do
  curl -sS -f -d '{"add":1}' "$node/v1/counter/default/$KEY"
done
value "$US"
