"""Keys: the same for the same content in every process, different for everything that changes a block's bytes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from paper_engine import Options, make_config

from chariot_ds.vllm import keys

SIZE = 16


@dataclass
class Asked:
    """What keys look at of a request."""

    all_token_ids: list[int]
    lora_request: Any = None
    cache_salt: str | None = None
    mm_features: list[Any] = field(default_factory=list)
    prompt_embeds: torch.Tensor | None = None
    prompt_is_token_ids: list[bool] | None = None


def image(identifier: str, offset: int, length: int) -> SimpleNamespace:
    return SimpleNamespace(identifier=identifier, mm_position=SimpleNamespace(offset=offset, length=length))


def chain(namespace: bytes = b"a model", **request: Any) -> list[bytes]:
    request.setdefault("all_token_ids", list(range(70)))
    sequence = keys.SequenceKeys(namespace, SIZE, Asked(**request))
    return [*sequence.full(4)[:4], sequence.partial(70)]


def test_keys_of_a_sequence_do_not_depend_on_when_they_are_asked_for() -> None:
    sequence = keys.SequenceKeys(b"a model", SIZE, Asked(list(range(70))))
    early = sequence.partial(20)
    assert [*sequence.full(2)[:2], *sequence.full(4)[2:], sequence.partial(70)] == chain()
    assert sequence.partial(20) == early


def test_each_block_is_another_key_than_the_same_tokens_elsewhere() -> None:
    alike = chain(all_token_ids=[5] * 70)
    assert len(set(alike)) == len(alike)


@pytest.mark.parametrize(
    "other",
    [
        {"cache_salt": "tenant"},
        {"lora_request": SimpleNamespace(lora_name="adapter", lora_path="/adapters/1")},
        {"lora_request": SimpleNamespace(lora_name="adapter", lora_path="/adapters/2")},
        {"prompt_embeds": torch.zeros(70, 4)},
        {"prompt_embeds": torch.ones(70, 4)},
        {"mm_features": [image("a cat", 2, 60)]},
        {"mm_features": [image("a dog", 2, 60)]},
        {"mm_features": [image("a cat", 3, 60)]},
        {"namespace": b"another model"},
    ],
)
def test_what_changes_the_bytes_changes_every_key_after_it(other: dict[str, Any]) -> None:
    assert not set(chain()) & set(chain(**other))


def test_adapters_and_salts_are_told_apart() -> None:
    variants: list[dict[str, Any]] = [
        {"cache_salt": "x"},
        {"cache_salt": "y"},
        {"lora_request": SimpleNamespace(lora_name="x", lora_path="")},
        {"mm_features": [image("x", 0, 1)]},
        {"mm_features": [image("x", 0, 1), image("y", 0, 1)]},
        {"prompt_embeds": torch.zeros(70, 4), "prompt_is_token_ids": [True] * 70},
        {"prompt_embeds": torch.zeros(70, 4), "prompt_is_token_ids": [False] * 70},
    ]
    firsts = [chain(**variant)[0] for variant in variants]
    assert len(set(firsts)) == len(variants)


def test_an_image_changes_no_block_before_it() -> None:
    with_image = chain(mm_features=[image("a cat", 40, 4)])
    assert [ours == theirs for ours, theirs in zip(chain(), with_image, strict=True)] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.timeout(300)  # Two processes import vLLM, perhaps for the first time.
def test_keys_are_the_same_in_processes_of_other_hash_seeds(model: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from paper_engine import Options, make_config;"
        "from chariot_ds.vllm import keys; from chariot_ds._native import KeyChain;"
        "config = make_config(Options(address='127.0.0.1:1', model=Path(sys.argv[1])));"
        "name = keys.content_namespace(config, '', 16, 0);"
        "print(KeyChain(name, 16).extend(list(range(32)), {})[1].hex())"
    )
    here = Path(__file__).parent
    answers = [
        subprocess.run(
            [sys.executable, "-c", script, str(model)],
            cwd=here,
            env={**__import__("os").environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()[-1]
        for seed in ("1", "2")
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("model_config", "model", "another"),
        ("model_config", "revision", "another"),
        ("model_config", "dtype", torch.float16),
        ("model_config", "quantization", "fp8"),
        ("cache_config", "cache_dtype", "fp8"),
    ],
)
def test_a_namespace_binds_the_model_and_its_types(model: Path, part: str, name: str, value: Any) -> None:
    config = make_config(Options(address="127.0.0.1:1", model=model))
    before = keys.content_namespace(config, "", SIZE, 0)
    setattr(getattr(config, part), name, value)
    assert keys.content_namespace(config, "", SIZE, 0) != before


def test_a_namespace_binds_sizes_version_and_resets(model: Path) -> None:
    config = make_config(Options(address="127.0.0.1:1", model=model))
    namespaces = [
        keys.content_namespace(config, *facts) for facts in (("", 16, 0), ("1", 16, 0), ("", 32, 0), ("", 16, 1))
    ]
    config.model_config.hf_config.rope_theta = 5.0
    namespaces.append(keys.content_namespace(config, "", 16, 0))
    assert len(set(namespaces)) == 5
