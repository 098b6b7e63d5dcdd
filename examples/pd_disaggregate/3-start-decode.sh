#!/usr/bin/env bash
# Runs the decode instance in the foreground; give it a terminal of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && source ./settings.sh

exec env "$DEVICE_VARIABLE=$DECODE_DEVICES" vllm serve "$MODEL" --port "$DECODE_PORT" "${VLLM_FLAGS[@]}" \
  --kv-transfer-config '{"kv_connector":"ChariotConnector","kv_role":"kv_consumer","kv_rank":1,"kv_parallel_size":2}'
