"""Reads Prometheus text: sums of counters by name and label."""

import re

from tools.traffic.openai_client import get_text

SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")


def counter(url: str, name: str, **labels: str) -> float:
    """The sum of all samples of `name` at `url`/metrics whose labels include `labels`; 0 when there are none."""
    total = 0.0
    for line in get_text(f"{url}/metrics").splitlines():
        sample = SAMPLE.match(line)
        if (
            sample
            and sample[1] == name
            and all(f'{key}="{value}"' in (sample[2] or "") for key, value in labels.items())
        ):
            total += float(sample[3])
    return total


def external_hits(url: str) -> int:
    """Prompt tokens whose KV a connector supplied."""
    return int(counter(url, "vllm:external_prefix_cache_hits_total"))


def preemptions(url: str) -> int:
    """Requests put back to wait because the KV cache was full."""
    return int(counter(url, "vllm:num_preemptions_total"))
