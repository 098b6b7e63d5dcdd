"""What vLLM calls in each of its processes before it reads its arguments.

It makes the name ChariotConnector known, and mends two things about the configuration of that connector alone: fields
that guides still pass and newer versions refuse, and a default that would turn a cache miss into a failed request.
"""

from __future__ import annotations

import dataclasses
from typing import Any

CONNECTOR = "ChariotConnector"
EXPLICIT_POLICY = "chariot.load_failure_policy"
"""Where a policy that the user chose is noted: the field itself does not tell it from the default."""


def register() -> None:
    """vLLM's plugin entry point. May be called any number of times."""
    from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory

    # A second registration raises, and vLLM has no question for whether there was one.
    if CONNECTOR not in KVConnectorFactory._registry:
        KVConnectorFactory.register_connector(CONNECTOR, "chariot_ds.vllm.connector", CONNECTOR)
    mend_configuration()


def mend_configuration() -> None:
    """Makes KVTransferConfig take legacy fields for ChariotConnector, and note a policy that was chosen."""
    from pydantic.dataclasses import rebuild_dataclass
    from pydantic_core import ArgsKwargs, core_schema
    from vllm.config import KVTransferConfig

    if "__get_pydantic_core_schema__" in vars(KVTransferConfig):
        return
    known = {field.name for field in dataclasses.fields(KVTransferConfig)}

    def mend(data: Any) -> Any:
        if isinstance(data, ArgsKwargs):
            return ArgsKwargs(data.args, mended(dict(data.kwargs or {}), known))
        return mended(dict(data), known) if isinstance(data, dict) else data

    def schema(cls: type, source: Any, handler: Any) -> Any:
        return core_schema.no_info_before_validator_function(mend, handler(source))

    config: Any = KVTransferConfig
    config.__get_pydantic_core_schema__ = classmethod(schema)
    rebuild_dataclass(config, force=True)


def mended(given: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """The fields that `given` should have had: legacy ones moved into the extra configuration."""
    from chariot_ds.vllm.compat import LEGACY_FIELDS

    if given.get("kv_connector") != CONNECTOR:
        return given
    extra = dict(given.get("kv_connector_extra_config") or {})
    for name in LEGACY_FIELDS:
        if name in given and name not in known:
            extra[name] = given.pop(name)
    if "kv_load_failure_policy" in known:
        if "kv_load_failure_policy" in given:
            extra.setdefault(EXPLICIT_POLICY, given["kv_load_failure_policy"])
        else:
            given["kv_load_failure_policy"] = extra.get(EXPLICIT_POLICY) or "recompute"
    given["kv_connector_extra_config"] = extra
    return given
