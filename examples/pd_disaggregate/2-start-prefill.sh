#!/usr/bin/env bash
# Runs the prefill instance in the foreground; give it a terminal of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && source ./settings.sh

exec env "$DEVICE_VARIABLE=$PREFILL_DEVICES" vllm serve "$MODEL" --port "$PREFILL_PORT" "${VLLM_FLAGS[@]}" \
  --kv-transfer-config '{"kv_connector":"ChariotConnector","kv_role":"kv_producer","kv_rank":0,"kv_parallel_size":2}'
