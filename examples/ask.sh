#!/bin/sh
# One question, then how its answer came about. STRETTO_URL: the gateway, by default the one that `make serve` starts.
url=${STRETTO_URL:-http://127.0.0.1:8700/v1}
answer=$(curl -sS "$url/chat/completions" -H 'content-type: application/json' \
  -d '{"model": "cascade", "messages": [{"role": "user", "content": "How much is 17 plus 25?"}], "temperature": 0}')
echo "$answer"
run=$(echo "$answer" | sed -n 's/.*"run_id":"\([^"]*\)".*/\1/p')
curl -sS "$url/runs/$run"
echo
