#!/usr/bin/env bash
# Drains and stops the data worker. Stop both instances first, with Ctrl-C in their terminals.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && source ./settings.sh

dscli stop -w --worker_address "$WORKER_ADDRESS"
