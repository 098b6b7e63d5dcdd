"""Instances of two tenants on one worker: each finds its own prompts, and nothing of the other's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import FreshPrompt
from deployment import CACHE_CAN_BE_RESET, Deployment, answer, on_worker
from tools.services.data_worker import start_worker
from tools.services.ports import HOST, free_ports
from tools.services.service import Service
from tools.services.vllm_instance import start_vllm
from tools.traffic.openai_client import post

TOKENS = {"team-a": "0123456789-secret-a", "team-b": "0123456789-secret-b"}
PROMPT_TOKENS = 700


@pytest.fixture(scope="module")
def engines(logs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Service]]:
    """An instance of each tenant, one told its token and the other where that stands."""
    folder, logs = tmp_path_factory.mktemp("tenants"), logs / "tenants"
    tenants, named = folder / "tenants", folder / "token"
    tenants.touch(mode=0o600)
    tenants.write_text("".join(f"{name} 256 {token}\n" for name, token in TOKENS.items()))
    named.write_text(TOKENS["team-b"])
    [port] = free_ports(1)
    worker = start_worker(f"{HOST}:{port}", logs, "--tenants", str(tenants))
    shown = [{"CHARIOT_TOKEN": TOKENS["team-a"]}, {"CHARIOT_TOKEN_FILE": str(named)}]
    engines = [
        start_vllm(name, on_worker(worker.address, "kv_both", **CACHE_CAN_BE_RESET, **environment), logs)
        for name, environment in zip(TOKENS, shown, strict=True)
    ]
    try:
        yield [engine.wait_healthy() for engine in engines]
    finally:
        for engine in engines:
            engine.stop()
        worker.stop()
    said = "".join(file.read_text(errors="replace") for file in logs.rglob("*") if file.is_file())
    assert "secret" not in said, "no log holds a token"


def test_a_prompt_is_found_by_its_own_tenant_alone(
    engines: list[Service], deployment: Deployment, fresh_prompt: FreshPrompt
) -> None:
    prompt = fresh_prompt(PROMPT_TOKENS)
    expected = deployment.expected([prompt])
    ours, theirs = engines

    def computed(engine: Service) -> int:
        """Of the prompt, with a cache of its own that is empty; the answer must be plain vLLM's."""
        assert post(f"{engine.url}/reset_prefix_cache", {}) == {"success": True}
        given = answer(engine.url, engine, [prompt])
        assert given.tokens == expected
        return given.computed.prompt_tokens

    assert [computed(ours), computed(ours)] == [PROMPT_TOKENS, 1]
    assert [computed(theirs), computed(theirs)] == [PROMPT_TOKENS, 1]
