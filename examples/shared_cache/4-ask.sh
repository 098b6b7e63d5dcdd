#!/usr/bin/env bash
# Sends documents and chats to both instances in turn, and prints what each had not to compute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")" && source ./settings.sh

python3 ./ask.py "http://127.0.0.1:$FIRST_PORT" "http://127.0.0.1:$SECOND_PORT" "$MODEL"
