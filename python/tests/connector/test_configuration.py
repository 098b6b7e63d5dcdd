"""What users write and what becomes of it: settings, legacy fields, the failure policy."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from paper_engine import Options, make_cache_config, make_config
from pydantic import TypeAdapter, ValidationError
from vllm.config import KVTransferConfig
from vllm.distributed.kv_transfer.kv_connector.factory import KVConnectorFactory
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorRole

from chariot_ds.vllm import plugin
from chariot_ds.vllm.connector import ChariotConnector
from chariot_ds.vllm.settings import Settings
from chariot_ds.vllm.stats import COUNTERS

GUIDE = {"kv_connector": "ChariotConnector", "kv_role": "kv_producer", "kv_rank": 0, "kv_parallel_size": 2}


@pytest.fixture(autouse=True)
def _registered() -> None:
    plugin.register()


def test_vllm_finds_the_connector_by_name_however_often_it_is_registered() -> None:
    plugin.register()
    assert KVConnectorFactory.get_connector_class_by_name("ChariotConnector") is ChariotConnector


@pytest.mark.parametrize("role", ["kv_producer", "kv_consumer", "kv_both"])
def test_the_guides_command_works_as_written(role: str) -> None:
    text = json.dumps({**GUIDE, "kv_role": role})
    for config in (TypeAdapter(KVTransferConfig).validate_json(text), KVTransferConfig(**json.loads(text))):
        assert config.kv_role == role
        assert config.kv_load_failure_policy == "recompute"


def test_other_connectors_keep_their_rules() -> None:
    with pytest.raises(ValidationError):
        KVTransferConfig(**{**GUIDE, "kv_connector": "ExampleConnector", "a_field_of_no_version": 1})
    if "kv_rank" not in {field.name for field in dataclasses.fields(KVTransferConfig)}:
        with pytest.raises(ValidationError):
            KVTransferConfig(**{**GUIDE, "kv_connector": "ExampleConnector"})
    assert KVTransferConfig(kv_connector="ExampleConnector", kv_role="kv_both").kv_load_failure_policy == "fail"


@pytest.mark.parametrize(
    ("given", "policy"),
    [
        ({}, "recompute"),
        ({"kv_load_failure_policy": "fail"}, "fail"),
        ({"kv_load_failure_policy": "recompute"}, "recompute"),
        ({"kv_connector_extra_config": {"chariot.load_failure_policy": "fail"}}, "fail"),
    ],
)
def test_a_miss_is_no_failed_request_unless_the_user_says_so(model: Path, given: dict[str, Any], policy: str) -> None:
    extra = given.pop("kv_connector_extra_config", {})
    options = Options(address="127.0.0.1:1", model=model, extra=extra, transfer=given)
    config = make_config(options)
    ChariotConnector(config, KVConnectorRole.SCHEDULER, make_cache_config(options))
    assert config.kv_transfer_config.kv_load_failure_policy == policy


def test_a_configuration_made_before_the_plugin_was_loaded_gets_the_policy_as_well(model: Path) -> None:
    options = Options(address="127.0.0.1:1", model=model)
    config = make_config(options)
    config.kv_transfer_config.kv_load_failure_policy = "fail"
    ChariotConnector(config, KVConnectorRole.SCHEDULER, make_cache_config(options))
    assert config.kv_transfer_config.kv_load_failure_policy == "recompute"


def test_the_address_comes_from_the_environment_unless_it_is_configured() -> None:
    environment = {"DS_WORKER_ADDR": "127.0.0.1:31501"}
    assert Settings.read({}, environment).worker_address == "127.0.0.1:31501"
    assert Settings.read({"chariot.worker_address": "[::1]:9"}, environment).worker_address == "[::1]:9"


@pytest.mark.parametrize(
    ("extra", "hint"),
    [
        ({}, "export DS_WORKER_ADDR"),
        ({"chariot.worker_adress": "x:1"}, r"unknown key `chariot\.worker_adress`.*chariot\.worker_address"),
        ({"chariot.worker_address": "x:1", "chariot.device_path": "gpu"}, "host"),
        ({"chariot.worker_address": "x:1", "chariot.load_timeout_ms": 0}, "above 0"),
        ({"chariot.worker_address": "x:1", "chariot.load_threads": 1.5}, "whole number"),
        ({"chariot.worker_address": "x:1", "chariot.namespace": ""}, "1 to 128 bytes"),
        ({"chariot.worker_address": "x:1", "chariot.namespace": "a\nb"}, "without control characters"),
        ({"chariot.worker_address": "x:1", "chariot.load_failure_policy": "ignore"}, "recompute"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_hint(extra: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        Settings.read(extra, {})


def test_every_setting_and_metric_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "connector.md").read_text()
    assert [name for name in Settings.__dataclass_fields__ if f"`chariot.{name}`" not in text] == []
    assert [name for name in COUNTERS if f"_{name}_" not in text] == []


def test_a_wrong_address_is_refused_when_vllm_starts(model: Path) -> None:
    options = Options(address="localhost", model=model)
    with pytest.raises(ValueError, match="has no port"):
        ChariotConnector(make_config(options), KVConnectorRole.SCHEDULER, make_cache_config(options))


def test_full_graphs_are_given_up_for_layer_hooks_only_when_asked_to() -> None:
    assert not ChariotConnector.requires_piecewise_for_cudagraph({})
    assert ChariotConnector.requires_piecewise_for_cudagraph({"chariot.layerwise": "on"})
