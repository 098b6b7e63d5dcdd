"""Checks that ARCHITECTURE.md tells the truth where a machine can see it: files and tests that it names are there."""

import re
import subprocess

from tools.checkout import ROOT
from tools.failure import Failure

PAGE = ROOT / "ARCHITECTURE.md"


def check_map() -> str:
    """Every path and every test in backticks exists."""
    tracked = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    files = tracked.split()
    sources = "\n".join(
        (ROOT / name).read_text(errors="replace")
        for name in files
        if name.endswith((".rs", ".py")) and (ROOT / name).exists()
    )
    tests = set(re.findall(r"\bfn (\w+)|\bdef (\w+)", sources))
    known = {name for pair in tests for name in pair if name}
    text = PAGE.read_text()
    named = re.findall(r"`([^`\n]+)`", text)
    missing = []
    for name in named:
        if re.fullmatch(r"[a-z]+(_[a-z0-9]+){3,}", name) and name not in known:
            missing.append(f"the test `{name}`")
        elif re.fullmatch(r"[\w./-]+/[\w./-]*", name) and not is_there(name.removeprefix("./").rstrip("/"), files):
            missing.append(f"the path `{name}`")
    if missing:
        raise Failure("ARCHITECTURE.md names what is not there: " + ", ".join(missing), "correct the page")
    return f"{len(named)} names checked"


def is_there(path: str, files: list[str]) -> bool:
    """Whether a tracked file or folder ends like `path`: the page leaves out `crates/` and `src/` here and there."""
    return any(f"/{name}/".find(f"/{path}/") >= 0 or f"/{name}".endswith(f"/{path}") for name in files)
