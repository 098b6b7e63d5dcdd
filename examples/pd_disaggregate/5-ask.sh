#!/usr/bin/env bash
# Sends one completion through the proxy. Pass another prompt as the first argument.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && source ./settings.sh

prompt="${1:-who is the president of the united states?}"
body="$(python3 -c '
import json, sys
print(json.dumps({"model": sys.argv[1], "prompt": sys.argv[2], "max_tokens": 50, "temperature": 0}))
' "$MODEL" "$prompt")"
curl -X POST -sS --fail-with-body "http://127.0.0.1:$PROXY_PORT/v1/completions" -H "Content-Type: application/json" -d "$body"
echo
