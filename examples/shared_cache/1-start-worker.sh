#!/usr/bin/env bash
# Starts this node's data worker in the background; returns when it serves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && source ./settings.sh

mkdir -p "$LOGS"
dscli start -w --worker_address "$WORKER_ADDRESS" --shared_memory_size_mb "$POOL_MEGABYTES" --log_dir "$LOGS"
