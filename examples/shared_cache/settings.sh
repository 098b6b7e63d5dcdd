# Edit this file for your model, devices and addresses; the other scripts read it.
# Every value can also be given in the environment: MODEL=... ./2-start-first.sh

# A name on the hub or a directory. Both instances must serve the same weights with the same dtype.
: "${MODEL:=Qwen/Qwen2.5-7B-Instruct}"

# Which accelerator each instance uses, and the variable that says so on your platform:
# CUDA_VISIBLE_DEVICES for NVIDIA, ASCEND_RT_VISIBLE_DEVICES for Ascend.
: "${DEVICE_VARIABLE:=CUDA_VISIBLE_DEVICES}"
: "${FIRST_DEVICES:=0}"
: "${SECOND_DEVICES:=1}"

# One data worker a node. The instances on a node find it through DS_WORKER_ADDR.
: "${WORKER_ADDRESS:=127.0.0.1:31501}"

# Host memory for the KV cache, in MiB. A token of Qwen2.5-7B takes 56 KiB, so 64 GiB hold about 1.2 million tokens.
: "${POOL_MEGABYTES:=65536}"

: "${LOGS:=$HOME/chariot-logs}"

: "${FIRST_PORT:=8100}"
: "${SECOND_PORT:=8200}"

# Flags for both instances, word by word. With priorities, requests that are less urgent give way when memory is short.
: "${VLLM_FLAGS:=--enforce-eager --scheduling-policy priority}"

export DS_WORKER_ADDR="$WORKER_ADDRESS"
