"""What a type checker is told is what there is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from chariot_ds import Client
from chariot_ds.status import SessionStatus, Status


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="needs mypy")
def test_the_stubs_describe_the_native_module(tmp_path: Path) -> None:
    here = Path(__file__).parent
    checked = subprocess.run(
        [
            sys.executable, "-m", "mypy.stubtest", "chariot_ds._native",
            "--mypy-config-file", here / "stubtest.ini",
            "--allowlist", here / "stubtest_allowlist.txt", "--ignore-unused-allowlist",
        ],
        # Not beside the sources, which have no compiled module and would be taken for the package.
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_status_has_the_fields_that_its_type_names(client: Client) -> None:
    status = client.status()
    assert set(status) == set(Status.__annotations__)
    assert set(status["sessions"][0]) == set(SessionStatus.__annotations__)
    assert status["worker_address"] == client.address
