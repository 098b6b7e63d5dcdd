# Edit this file for your model, devices and addresses; the other scripts read it.
# Every value can also be given in the environment: MODEL=... ./2-start-prefill.sh

# A name on the hub or a directory. Prefill and decode must serve the same weights with the same dtype.
: "${MODEL:=Qwen/Qwen2.5-7B-Instruct}"

# Which accelerator each instance uses, and the variable that says so on your platform:
# CUDA_VISIBLE_DEVICES for NVIDIA, ASCEND_RT_VISIBLE_DEVICES for Ascend.
: "${DEVICE_VARIABLE:=CUDA_VISIBLE_DEVICES}"
: "${PREFILL_DEVICES:=0}"
: "${DECODE_DEVICES:=1}"

# One data worker a node. The instances on a node find it through DS_WORKER_ADDR.
: "${WORKER_ADDRESS:=127.0.0.1:31501}"

# Host memory for the KV cache, in MiB. A token of Qwen2.5-7B takes 56 KiB, so 64 GiB hold about 1.2 million tokens.
: "${POOL_MEGABYTES:=65536}"

: "${LOGS:=$HOME/chariot-logs}"

: "${PREFILL_PORT:=8100}"
: "${DECODE_PORT:=8200}"
: "${PROXY_PORT:=8000}"

# Flags for both instances.
VLLM_FLAGS=(
  --max-num-batched-tokens 45000
  --gpu-memory-utilization 0.8
  --trust-remote-code
  --enforce-eager
)

export DS_WORKER_ADDR="$WORKER_ADDRESS"
