"""`./dev test`: every check there is, cheapest first."""

import shutil

from tools import architecture, audit, checks, step
from tools.chaos.run import run_chaos
from tools.checkout import ROOT
from tools.etcd import ensure_etcd
from tools.failure import Failure
from tools.services import namespaces
from tools.soak.run import run_soak
from tools.vllm_environment import ensure_model, ensure_vllm
from tools.wheel import ensure_wheel

CHAOS_MINUTES, CHAOS_SEED = 5, 1
SOAK_MINUTES = 0.5
"""Long enough to see that `./dev soak` works, and what leaks much."""
LEAST_ROOM, FROM_COLD = 3 << 30, 14 << 30
"""Bytes of disk that tests write to, and those that a fresh clone takes with all it builds and installs."""


def run_all(steps: step.Steps, *, with_vllm: bool, fuzz_seconds: int) -> None:
    """Runs all checks even after one has failed, so that one run tells all; the caller looks at `steps.failed`."""
    steps.take("room on the disk", room)
    # First, since lints of the Python package need the packages that it imports.
    have_vllm = with_vllm and steps.take("vLLM environment", ensure_vllm)
    lint(steps, with_types=have_vllm)
    steps.take("etcd", ensure_etcd)
    steps.take("rust tests", checks.rust_tests)
    steps.take("rust model", checks.rust_model)
    steps.take("fuzz", lambda: checks.fuzz(fuzz_seconds))
    if have_vllm and steps.take("wheel", ensure_wheel):
        steps.take("python tests", checks.python_tests)
        if steps.take("tiny model", ensure_model):
            steps.take("end to end", checks.end_to_end_tests)
            steps.take("soak", lambda: run_soak(SOAK_MINUTES, None))
            steps.take("chaos", chaos_where_allowed)


def room() -> str:
    """Whether there is any: what fails for want of it looks like anything but that."""
    free = shutil.disk_usage(ROOT).free
    said = f"{free / 2**30:.0f} GiB free; a fresh clone takes {FROM_COLD >> 30}"
    if free < LEAST_ROOM:
        raise Failure(
            f"the disk of this checkout is full: {said}", "`./dev clean --all` removes what other clones built"
        )
    return said


def chaos_where_allowed() -> str:
    """Chaos takes network namespaces."""
    return run_chaos(CHAOS_MINUTES, CHAOS_SEED, None) if namespaces.are_allowed() else "left out: no network namespaces"


def lint(steps: step.Steps, *, with_types: bool = True) -> None:
    """What can be said without running product code."""
    steps.take("rust format", checks.rust_format)
    steps.take("rust lint", checks.rust_lint)
    steps.take("rust documentation", checks.rust_documentation)
    steps.take("shell syntax", checks.shell_syntax)
    steps.take("map", architecture.check_map)
    steps.take("python lint", checks.python_lint)
    if with_types:
        steps.take("python types", checks.python_types)
    steps.take("dependency audit", audit.dependency_audit)
