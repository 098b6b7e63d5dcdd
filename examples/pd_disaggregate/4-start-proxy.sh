#!/usr/bin/env bash
# Runs the proxy in the foreground: each request's prompt goes to prefill first, then the request goes to decode.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && source ./settings.sh

exec dscli proxy --port "$PROXY_PORT" --prefiller-port "$PREFILL_PORT" --decoder-port "$DECODE_PORT"
