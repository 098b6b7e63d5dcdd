"""Clients of a worker with tenants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from worker import Worker

from chariot_ds import ChariotError, Client

TOKENS = {"team-a": "0123456789-secret-a", "team-b": "0123456789-secret-b"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("tenants")
    tenants = folder / "tenants"
    tenants.touch(mode=0o600)
    tenants.write_text("".join(f"{name} 16 {token}\n" for name, token in TOKENS.items()))
    worker = Worker(folder, tenants=tenants)
    worker.start()
    yield worker.address
    worker.stop()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("CHARIOT_TOKEN", "CHARIOT_TOKEN_FILE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize("transport", ["auto", "tcp"])
def test_a_token_opens_its_own_pool_alone(
    address: str, transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Client(address, transport=transport, token=TOKENS["team-a"])
    ours.put("block", b"ours")
    ours.flush()
    named = tmp_path / "token"
    named.write_text(TOKENS["team-b"] + "\n")
    monkeypatch.setenv("CHARIOT_TOKEN_FILE", str(named))
    theirs = Client(address, transport=transport)
    assert theirs.get("block") is None
    assert theirs.status()["tenant"] == "team-b"
    monkeypatch.setenv("CHARIOT_TOKEN", TOKENS["team-a"])
    block = Client(address, transport=transport).get("block")
    assert block is not None
    assert bytes(block) == b"ours"


def test_who_has_no_token_of_the_worker_is_told_so_and_not_the_token(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ChariotError, match="does not let this client in"):
        Client(address)
    with pytest.raises(ChariotError, match="does not let this client in"):
        Client(address, token="0123456789-secret-c", wait_for_worker=60)
    with pytest.raises(ValueError, match="not a token") as failure:
        Client(address, token="secret word")
    assert "secret" not in str(failure.value)
    monkeypatch.setenv("CHARIOT_TOKEN_FILE", "/nowhere")
    with pytest.raises(ValueError, match="cannot read the token in `/nowhere`"):
        Client(address)
