"""The checks that `./dev test` and `./dev lint` are made of, each one step."""

import re
import shutil
import subprocess
from pathlib import Path

from tools import step
from tools.checkout import ROOT, TOOLS_ENVIRONMENT, VLLM_PYTHON

RUFF = TOOLS_ENVIRONMENT / "bin" / "ruff"
MYPY = TOOLS_ENVIRONMENT / "bin" / "mypy"
# Programs of other environments, whose packages the tools' own mypy does not see.
OTHER_PYTHONS = "tiny_model|peers/stores|chaos/stranger|soak/user"
PYTHON_FOLDERS = ["tools", "tests", "python", "examples", "crates"]


def rust_format() -> None:
    """Rust is formatted as rustfmt.toml says."""
    step.run(["cargo", "fmt", "--all", "--check"], "rust-format")


def rust_lint() -> None:
    """Clippy finds nothing, in tests and examples too; and Cargo.lock is what is committed, before a build mends it."""
    step.run(
        ["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "--deny", "warnings"],
        "rust-lint",
    )


def rust_tests() -> str:
    """Unit, property, integration and documentation tests of the workspace."""
    step.run(["cargo", "test", "--workspace", "--no-fail-fast"], "rust-tests")
    return count_rust_tests(ROOT / ".dev" / "logs" / "rust-tests.log")


def count_rust_tests(log: Path) -> str:
    """Sums up cargo's `test result:` lines."""
    counts = re.findall(
        r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", log.read_text(errors="replace")
    )
    passed, _, ignored = (sum(int(row[column]) for row in counts) for column in range(3))
    return f"{passed} passed" + (f", {ignored} ignored" if ignored else "")


def rust_model() -> str:
    """The protocol of the shared index, in the orders in which its sides can run (loom)."""
    step.run(
        [
            "cargo",
            "test",
            "--package",
            "chariot-index",
            "--lib",
            "--release",
            "--target-dir",
            "target/loom",
            "protocol",
        ],
        "rust-model",
        environment={"RUSTFLAGS": "--cfg loom"},
    )
    return count_rust_tests(ROOT / ".dev" / "logs" / "rust-model.log")


SANITIZED = ("types", "wire", "directory", "pool", "index", "device", "ssd")


def rust_sanitizer() -> str:
    """The tests of the crates below the worker, with each access to memory checked (address sanitizer)."""
    packages = [word for crate in SANITIZED for word in ("--package", f"chariot-{crate}")]
    step.run(
        ["cargo", "test", *packages, "--lib", "--tests", "--no-fail-fast", "--target", host(),
         "--target-dir", "target/sanitized"],
        "rust-sanitizer",
        # A flag that the stable compiler has and does not show. What a disk that hangs has borrowed leaks on purpose.
        environment={"RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": "-Zsanitizer=address", "ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    return count_rust_tests(ROOT / ".dev" / "logs" / "rust-sanitizer.log")


def host() -> str:
    """What cargo calls this machine: a target that is named keeps flags from build scripts and macros."""
    lines = subprocess.check_output(["rustc", "-vV"], text=True).splitlines()
    return next(line.removeprefix("host: ") for line in lines if line.startswith("host: "))


def rust_documentation() -> None:
    """The documentation builds, and its links lead somewhere."""
    step.run(
        ["cargo", "doc", "--workspace", "--no-deps", "--quiet", "--document-private-items"],
        "rust-documentation",
        environment={"RUSTDOCFLAGS": "--deny warnings"},
    )


def python_lint() -> None:
    """Ruff finds nothing and would change no formatting."""
    folders = [folder for folder in PYTHON_FOLDERS if (ROOT / folder).is_dir()]
    step.run([RUFF, "check", "--no-cache", *folders], "python-lint")
    step.run([RUFF, "format", "--no-cache", "--check", *folders], "python-format")


def python_types() -> None:
    """Mypy, strict, on the package as it is installed from the wheel's sources, its stubs, and the tools."""
    cache = ROOT / ".dev" / "mypy"
    common: list[str | Path] = [MYPY, "--python-executable", VLLM_PYTHON, "--cache-dir", cache]
    step.run(
        [*common, "--config-file", ROOT / "python" / "pyproject.toml"],
        "python-types",
        directory=ROOT / "python",
    )
    # Not yet installed in a fresh environment: the package is read where it stands.
    beside = {"MYPYPATH": str(ROOT / "python")}
    step.run([*common, "--strict", ROOT / "crates" / "bench" / "src"], "bench-types", environment=beside)
    step.run([MYPY, "--cache-dir", cache, "--strict", "--exclude", OTHER_PYTHONS, "tools"], "tools-types")


def shell_syntax() -> None:
    """The shell scripts parse."""
    scripts = [ROOT / "dev", ROOT / ".ci" / "run", *(ROOT / "examples").rglob("*.sh")]
    for script in scripts:
        step.run(["bash", "-n", script], "shell-syntax")


def python_tests() -> str:
    """The Python client's tests, against a real worker."""
    return pytest("python-tests", ROOT / "python" / "tests")


def end_to_end_tests(*arguments: str) -> str:
    """The tests with real vLLM instances."""
    return pytest("end-to-end", ROOT / "tests" / "e2e", *arguments)


def pytest(log: str, folder: Path, *arguments: str) -> str:
    """Runs pytest in vLLM's environment, where the wheel is installed; returns its closing words."""
    if not folder.is_dir():
        return "nothing there yet"
    step.run(
        [VLLM_PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "--durations", "15", "-ra", folder, *arguments],
        log,
        environment={"PATH": f"{VLLM_PYTHON.parent}:{step.clean_environment()['PATH']}"},
    )
    closing = step.tail(ROOT / ".dev" / "logs" / f"{log}.log", 1)
    return re.sub(r"^=+ | in [\d.]+s.*$", "", closing).strip()


FUZZ_TARGETS = tuple(sorted(path.stem for path in (ROOT / "fuzz" / "fuzz_targets").glob("*.rs")))

# What a fuzzer needs to see which branches an input reaches, by flags that a stable compiler takes; and the ways in
# that some crates have for fuzzers alone.
COVERAGE_FLAGS = " ".join(
    [
        "--cfg=fuzzing",
        "-Cpasses=sancov-module",
        "-Cllvm-args=-sanitizer-coverage-level=4",
        "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
        "-Cllvm-args=-sanitizer-coverage-pc-table",
        "-Cllvm-args=-sanitizer-coverage-trace-compares",
        "-Ccodegen-units=1",
    ]
)


def fuzz(seconds: int) -> str:
    """Feeds each decoder inputs that a coverage-guided fuzzer makes up, for a fixed time each.

    A finding is kept in `.dev/fuzz/` and repeated by running the target on it. The fuzzer is C++, which a machine with
    a C compiler alone may lack: there this step says so and does nothing.
    """
    if shutil.which("c++") is None:
        return "skipped: the fuzzer needs a C++ compiler, and there is none"
    folder = ROOT / ".dev" / "fuzz"
    step.run(
        ["cargo", "build", "--release", "--locked", "--manifest-path", "fuzz/Cargo.toml", "--target", host(),
         "--target-dir", folder / "target"],
        "fuzz-build",
        environment={"RUSTFLAGS": COVERAGE_FLAGS},
    )  # fmt: skip
    inputs = 0
    for target in FUZZ_TARGETS:
        corpus = folder / "corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        log = f"fuzz-{target}"
        step.run(
            [folder / "target" / host() / "release" / target, f"-max_total_time={seconds}", "-print_final_stats=1",
             f"-artifact_prefix={folder}/{target}-", corpus, ROOT / "fuzz" / "seeds" / target],
            log,
        )  # fmt: skip
        said = (folder.parent / "logs" / f"{log}.log").read_text(errors="replace")
        inputs += sum(int(count) for count in re.findall(r"number_of_executed_units: (\d+)", said))
    return f"{inputs:,} inputs to {len(FUZZ_TARGETS)} decoders, no finding"
