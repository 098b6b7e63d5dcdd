"""`./dev test`: every check there is, cheapest first."""

from tools import architecture, audit, checks, step
from tools.chaos.run import run_chaos
from tools.etcd import ensure_etcd
from tools.services import namespaces
from tools.vllm_environment import ensure_model, ensure_vllm
from tools.wheel import ensure_wheel

CHAOS_MINUTES, CHAOS_SEED = 5, 1


def run_all(steps: step.Steps, *, with_vllm: bool, fuzz_seconds: int) -> None:
    """Runs all checks even after one has failed, so that one run tells all; the caller looks at `steps.failed`."""
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
            steps.take("chaos", chaos_where_allowed)


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
