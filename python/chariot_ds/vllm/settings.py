"""What a user can set: the `chariot.*` keys of `kv_connector_extra_config`, and DS_WORKER_ADDR."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

ADDRESS_VARIABLE = "DS_WORKER_ADDR"
PREFIX = "chariot."

LONGEST_NAMESPACE = 128

DevicePath = Literal["auto", "host", "torch"]
Layerwise = Literal["auto", "on", "off"]
FailurePolicy = Literal["recompute", "fail"]


@dataclass(frozen=True)
class Settings:
    """The connector's settings, checked. Each field but the address is the key `chariot.<field>`."""

    worker_address: str
    """The data worker's `host:port`; DS_WORKER_ADDR unless set."""
    model_version: str = ""
    """Part of every key. Change it when weights change under the same model name, or stale KV is served."""
    namespace: str | None = None
    """Whose the blocks are, for quotas and `dscli evict`; the name under which vLLM serves the model unless set."""
    kv_shards: int | None = None
    """Into how many shards the KV heads of a block are divided, all ranks together; as many as there are ranks that
    hold different heads unless set. Instances with other numbers of ranks share blocks where it is the same."""
    request_timeout_ms: float = 1000.0
    """A worker that leaves a request unanswered this long is given up, and looked for again."""
    lookup_timeout_ms: float = 200.0
    """A request waits this long for the worker to say what there is; then it is computed."""
    load_timeout_ms: float = 5000.0
    """A load that takes longer has failed; what it lacks is recomputed."""
    remote_prefill_timeout_ms: float = 10000.0
    """A prompt that another instance is said to compute now is given up when no block of it comes for this long."""
    load_threads: int = 2
    """Threads that copy loaded blocks to the KV cache."""
    device_path: DevicePath = "auto"
    """How pages are copied: `host` straight from and to memory, `torch` through torch; `auto` by device."""
    layerwise: Layerwise = "auto"
    """Whether a layer is saved while the next is computed; `auto` by device."""
    load_failure_policy: FailurePolicy | None = None
    """What vLLM does about a load that failed; None for recompute, unless kv_load_failure_policy was set."""

    @classmethod
    def read(cls, extra_config: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
        """The settings in `extra_config`; raises ValueError with a hint for what cannot be meant."""
        given = {key.removeprefix(PREFIX): value for key, value in extra_config.items() if key.startswith(PREFIX)}
        for name in given:
            if name not in cls.__dataclass_fields__:
                known = ", ".join(PREFIX + field for field in cls.__dataclass_fields__)
                raise ValueError(f"kv_connector_extra_config has the unknown key `{PREFIX}{name}`. Known: {known}.")
        given.setdefault("worker_address", environment.get(ADDRESS_VARIABLE, ""))
        if not given["worker_address"]:
            raise ValueError(
                f"ChariotConnector does not know its data worker: {ADDRESS_VARIABLE} is not set. Start one with "
                f'`dscli start -w --worker_address "127.0.0.1:31501"` and `export {ADDRESS_VARIABLE}=127.0.0.1:31501`.'
            )
        settings = cls(**given)
        settings._check()
        return settings

    def _check(self) -> None:
        for name, choices in (("device_path", DevicePath), ("layerwise", Layerwise)):
            self._check_choice(name, get_args(choices))
        self._check_choice("load_failure_policy", (None, *get_args(FailurePolicy)))
        numbers = ("request_timeout_ms", "lookup_timeout_ms", "load_timeout_ms", "remote_prefill_timeout_ms")
        for name in (*numbers, "load_threads"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"`{PREFIX}{name}` is `{value!r}`: expected a number above 0.")
        if not isinstance(self.load_threads, int):
            raise ValueError(f"`{PREFIX}load_threads` is `{self.load_threads!r}`: expected a whole number.")
        if self.kv_shards is not None and (type(self.kv_shards) is not int or self.kv_shards < 1):
            raise ValueError(f"`{PREFIX}kv_shards` is `{self.kv_shards!r}`: expected a whole number above 0.")
        if not isinstance(self.worker_address, str) or not isinstance(self.model_version, str):
            raise ValueError(f"`{PREFIX}worker_address` and `{PREFIX}model_version` are texts.")
        if self.namespace is not None and not _is_namespace(self.namespace):
            raise ValueError(
                f"`{PREFIX}namespace` is `{self.namespace!r}`: expected a text of 1 to {LONGEST_NAMESPACE} bytes "
                "without control characters."
            )

    def namespace_of(self, vllm_config: Any) -> str:
        """Whose the blocks of this engine are."""
        if self.namespace is not None:
            return self.namespace
        model = vllm_config.model_config
        served = getattr(model, "served_model_name", None) or model.model
        name = str(served[0] if isinstance(served, list) else served)
        # What tells long paths apart is their end.
        name = name.encode(errors="replace")[-LONGEST_NAMESPACE:].decode(errors="ignore")
        return name if _is_namespace(name) else "default"

    def _check_choice(self, name: str, choices: tuple[str | None, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(f"`{PREFIX}{name}` is `{getattr(self, name)!r}`: expected one of {choices}.")


def _is_namespace(name: object) -> bool:
    is_text = isinstance(name, str) and 0 < len(name.encode(errors="replace")) <= LONGEST_NAMESPACE
    return is_text and not any(unicodedata.category(character) == "Cc" for character in str(name))
