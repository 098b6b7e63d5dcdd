"""How long a prompt's KV cache takes from prefill's last layer to decode's last byte, by the connectors' metrics."""

import time

from tools.failure import Failure
from tools.traffic.metrics import counter

COMPUTED = "vllm:chariot_last_computed_timestamp_seconds"
LOADED = "vllm:chariot_last_loaded_timestamp_seconds"
SECONDS = 10


def handoff_seconds(prefill: str, decode: str, sent_at: float) -> float:
    """Of the one prompt sent at that time of the clock and answered since, by the instances at these URLs."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        computed, loaded = counter(prefill, COMPUTED), counter(decode, LOADED)
        if computed > sent_at and loaded > sent_at:
            return loaded - computed
        time.sleep(0.02)
    raise Failure(f"{prefill} and {decode} do not say when a prompt was computed and loaded")
