"""What was saved and loaded, for vLLM's log and its Prometheus metrics.

Imported in the API server as well, so nothing here starts threads or touches a device.
"""

from __future__ import annotations

from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics, KVConnectorStats

COUNTERS = {
    "saved_blocks": "KV-cache blocks saved to the data worker.",
    "saved_bytes": "Bytes of KV cache saved to the data worker.",
    "present_blocks": "KV-cache blocks not saved because the data worker had them.",
    "dropped_blocks": "KV-cache blocks not saved for want of room or of the data worker.",
    "save_wait_seconds": "Time that steps waited for their KV cache to be saved.",
    "forwarded_blocks": "KV-cache blocks sent on to the data worker of the instance that decodes them.",
    "loads": "Requests whose KV cache was loaded, in whole or in part.",
    "loaded_blocks": "KV-cache blocks loaded from the data worker.",
    "loaded_bytes": "Bytes of KV cache loaded from the data worker.",
    "failed_blocks": "KV-cache blocks that could not be loaded and were recomputed.",
    "load_seconds": "Time that loads took from start to end.",
}
"""What is counted, and what it means. Each is the metric `vllm:chariot_<name>_total`."""


TIMES = {
    "last_computed": "When the model had computed the KV cache of the last layer of the last step that saved.",
    "last_loaded": "When the last load ended.",
}
"""What is remembered as seconds since 1970. Each is the metric `vllm:chariot_<name>_timestamp_seconds`.

From prefill's last layer to decode's last byte it takes decode's `last_loaded` less prefill's `last_computed`."""


class ChariotStats(KVConnectorStats):
    """Counts since the last report, and times of the last. What is zero is left out."""

    def reset(self) -> None:
        """Forgets all counts."""
        self.data = {}

    def add(self, name: str, amount: float) -> None:
        """Counts `amount` more of one of `COUNTERS`."""
        if amount:
            self.data[name] = self.data.get(name, 0) + amount

    def note(self, name: str, time: float) -> None:
        """Remembers the latest of `TIMES`."""
        self.data[name] = max(time, self.data.get(name, 0))

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        """Adds the counts of another rank or step."""
        for name, amount in other.data.items():
            if name in TIMES:
                self.note(name, amount)
            else:
                self.add(name, amount)
        return self

    def reduce(self) -> dict[str, int | float]:
        """The counts for the log, rates among them."""
        line = {name: round(amount, 4) for name, amount in self.data.items() if name not in TIMES}
        if seconds := self.data.get("load_seconds"):
            line["load_GB_per_s"] = round(self.data.get("loaded_bytes", 0) / seconds / 1e9, 3)
        return line

    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not self.data


class ChariotPromMetrics(KVConnectorPromMetrics):
    """The counters and times in vLLM's /metrics."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._counters = {
            name: self._of_each_engine(
                self._counter_cls(name=f"vllm:chariot_{name}", documentation=meaning, labelnames=self._labelnames)
            )
            for name, meaning in COUNTERS.items()
        }
        gauge: Any = self._gauge_cls
        self._times = {
            name: self._of_each_engine(
                gauge(
                    name=f"vllm:chariot_{name}_timestamp_seconds",
                    documentation=meaning,
                    labelnames=self._labelnames,
                    multiprocess_mode="mostrecent",
                )
            )
            for name, meaning in TIMES.items()
        }

    def _of_each_engine(self, metric: Any) -> dict[int, Any]:
        return {engine: metric.labels(*values) for engine, values in self.per_engine_labelvalues.items()}

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        """Adds one report's counts, and takes its times."""
        for name, amount in transfer_stats_data.items():
            if name in TIMES:
                self._times[name][engine_idx].set(amount)
            else:
                self._counters[name][engine_idx].inc(amount)
