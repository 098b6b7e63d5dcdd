#!/usr/bin/env bash
# Runs the second instance in the foreground; give it a terminal of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && source ./settings.sh

# shellcheck disable=SC2086 # The flags are words.
exec env "$DEVICE_VARIABLE=$SECOND_DEVICES" vllm serve "$MODEL" --port "$SECOND_PORT" $VLLM_FLAGS \
  --kv-transfer-config '{"kv_connector":"ChariotConnector","kv_role":"kv_both"}'
