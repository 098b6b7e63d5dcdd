"""The dependency audit: every crate's licence is one we may ship, its source is the registry, and no advisory is known.

Advisories come from OSV (osv.dev), which holds RustSec's and the Python packages' alike: one question for all pinned
dependencies, nothing to install or to compile. A machine that cannot reach it says so and passes.
"""

import json
import re
import subprocess
import urllib.request
from dataclasses import dataclass
from typing import Any

from tools import step
from tools.checkout import ROOT
from tools.failure import Failure

# What Apache-2.0 software may link statically. An expression passes when one of its alternatives is all in here.
ALLOWED_LICENCES = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}  # fmt: skip

ADVISORIES = "https://api.osv.dev/v1"
ADVISORIES_SECONDS = 10


@dataclass(frozen=True)
class Dependency:
    """One pinned package, under the names that OSV gives ecosystems."""

    ecosystem: str
    name: str
    version: str


def dependency_audit() -> str:
    """Fails for a crate whose licence or source is not allowed, or that has an advisory; notes those of the tools."""
    crates = foreign_crates()
    problems = [
        f"{crate['name']} {crate['version']}: licence `{crate['license']}`"
        for crate in crates
        if not licence_is_allowed(crate["license"])
    ]
    problems += [
        f"{crate['name']} {crate['version']}: not from the registry but from `{crate['source']}`"
        for crate in crates
        if not crate["source"].startswith("registry+")
    ]
    if problems:
        raise Failure("\n  ".join(["dependencies that may not be used:", *problems]))
    shipped = [Dependency("crates.io", crate["name"], crate["version"]) for crate in crates]
    return f"{len(crates)} licences; {check_advisories(shipped, pinned_tools())}"


def foreign_crates() -> list[dict[str, Any]]:
    """The packages of the lock file that are not ours, as cargo describes them."""
    metadata = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--locked"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if metadata.returncode != 0:
        raise Failure(f"`cargo metadata --locked` failed: {metadata.stderr.strip()}", "is Cargo.lock committed?")
    return [package for package in json.loads(metadata.stdout)["packages"] if package["source"] is not None]


def pinned_tools() -> list[Dependency]:
    """The Python packages that ./dev installs. The wheel itself depends on none of them."""
    pins = (line for file in sorted((ROOT / "tools").glob("*requirements.txt")) for line in file.open())
    found = (re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in pins)
    return sorted({Dependency("PyPI", pin[1], pin[2]) for pin in found if pin}, key=lambda tool: tool.name)


def licence_is_allowed(expression: str | None) -> bool:
    """Reads an SPDX expression of `AND` and `OR` (also the older `/`); brackets are resolved from the inside out."""
    if expression is None:
        return False
    text = expression.replace("/", " OR ")
    while bracket := re.search(r"\(([^()]*)\)", text):
        verdict = "MIT" if licence_is_allowed(bracket[1]) else "refused"
        text = text[: bracket.start()] + verdict + text[bracket.end() :]
    return any(
        all(term.strip() in ALLOWED_LICENCES for term in alternative.split(" AND "))
        for alternative in text.split(" OR ")
    )


def check_advisories(shipped: list[Dependency], tools: list[Dependency]) -> str:
    """Fails for an advisory on what we ship; what only tools and tests use is noted, as is what is no flaw."""
    try:
        serious = []
        for dependency, name in known_advisories(shipped + tools):
            advisory = ask(f"vulns/{name}")
            text = f"{dependency.name} {dependency.version}: {name}: {advisory.get('summary', 'no summary')}"
            if dependency in shipped and not is_informational(advisory):
                serious.append(text)
            else:
                step.note(text)
    except (OSError, ValueError) as error:
        return f"advisories not reachable: {error}"
    if serious:
        raise Failure("\n  ".join(["dependencies with security advisories:", *serious]), "update them: cargo update")
    return f"no security advisories for {len(shipped)} crates"


def known_advisories(dependencies: list[Dependency]) -> list[tuple[Dependency, str]]:
    """The names of the advisories on each dependency."""
    queries = [
        {"package": {"name": item.name, "ecosystem": item.ecosystem}, "version": item.version} for item in dependencies
    ]
    results = ask("querybatch", {"queries": queries})["results"]
    return [
        (dependency, found["id"])
        for dependency, result in zip(dependencies, results, strict=True)
        for found in result.get("vulns", ())
    ]


def is_informational(advisory: dict[str, Any]) -> bool:
    """Whether it says no more than that a crate is unmaintained, or the like."""
    return any(item.get("database_specific", {}).get("informational") for item in advisory.get("affected", ()))


def ask(path: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to OSV; a POST when there is a question."""
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(f"{ADVISORIES}/{path}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=ADVISORIES_SECONDS) as reply:
        answer: dict[str, Any] = json.load(reply)
    return answer
