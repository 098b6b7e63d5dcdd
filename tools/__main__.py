"""The command line of ./dev."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tools import bench, checks, clean, demo, engine_bench, integrity_bench, interrupt, nodes_bench, running, step, test
from tools.chaos import run as chaos
from tools.checkout import VLLM
from tools.etcd import ensure_etcd
from tools.failure import Failure
from tools.peers import comparison
from tools.services import namespaces
from tools.soak import run as soak
from tools.vllm_environment import ensure_model, ensure_vllm, pin_requirements
from tools.wheel import build_binary, ensure_wheel

# What `./dev bench` measures on one node, and what of the network between two without having them.
ALONE, OF_NETWORK = ("worker", "vllm"), ("integrity",)

Command = Callable[[argparse.Namespace, step.Steps], None]


def parser() -> argparse.ArgumentParser:
    """All subcommands, each with its help."""
    top = argparse.ArgumentParser(
        prog="./dev",
        description="Builds, tests and shows Chariot. Needs Rust, Python 3.11 and a C compiler; installs the rest "
        "under .dev/ in this checkout, and writes nowhere else but cargo's target/.",
    )
    commands = top.add_subparsers(dest="name", required=True, metavar="COMMAND")

    def add(name: str, summary: str, run: Command) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        return command

    add("setup", "install vLLM for CPU and etcd below .dev, and make the tiny model", setup)
    add("build", "build dscli, release", build)
    add("wheel", "build the wheel chariot-ds with dscli in it, and install it beside vLLM", wheel)

    tests = add(
        "test", "everything continuous integration checks: lints, tests, wheel, end to end with real vLLM", run_test
    )
    tests.add_argument("--without-vllm", action="store_true", help="leave out what needs vLLM (about 6 GB)")
    tests.add_argument("--fuzz-seconds", type=int, default=10, metavar="N", help="how long each decoder is fuzzed")

    show = add("demo", "real vLLM answering through Chariot, compared with plain vLLM", run_demo)
    show.add_argument("--nodes", type=int, choices=(1, 2), default=1, help="2: prefill and decode on different ones")
    show.add_argument("--keep", action="store_true", help="leave everything running afterwards and print a curl line")
    show.add_argument("--stop", action="store_true", help="end what an earlier --keep left running")
    show.add_argument("--json", type=Path, metavar="FILE", help="write the table there as JSON")

    measure = add(
        "bench",
        "put, get, exists and spill against memcpy, a socket ping-pong and fio, and prompts found against computed",
        run_bench,
    )
    measure.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as JSON")
    measure.add_argument(
        "--nodes", type=int, choices=(1, 2), help="1: one worker alone; 2: between workers of one cluster; else both"
    )
    measure.add_argument("--only", choices=(*ALONE, *OF_NETWORK, *nodes_bench.PARTS), help="this part alone")
    measure.add_argument("--peers", action="store_true", help="also run Mooncake, openYuanrong datasystem and Redis")

    disturb = add(
        "chaos", "real vLLM through Chariot on two nodes, while things are killed, stopped and cut", run_chaos
    )
    disturb.add_argument("--minutes", type=float, default=5, metavar="N", help="how long (default 5)")
    disturb.add_argument("--seed", type=int, default=1, metavar="S", help="which faults, in which order (default 1)")
    disturb.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there as JSON")
    disturb.add_argument("--only", default="", metavar="WORDS", help="the faults with these words in their names alone")

    long = add(
        "soak", "data workers under a steady mixed load for long, and whether anything grows meanwhile", run_soak
    )
    long.add_argument("--minutes", type=float, default=60, metavar="N", help="how long (default 60)")
    long.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there as JSON")

    add("lint", "formatting, lints, types and the dependency audit", run_lint)

    fuzzing = add("fuzz", "feed each decoder of bytes from outside what a fuzzer makes up", run_fuzz)
    fuzzing.add_argument("--seconds", type=int, default=60, metavar="N")

    add(
        "sanitize",
        "the tests of the crates below the worker, each access to memory checked",
        run_sanitize,
    )

    add("pin", "make tools/vllm-requirements.txt anew for the vLLM version named in tools/vllm_environment.py", run_pin)

    sweep = add("clean", "end what a demo left running and remove .dev/ (vLLM, model, logs)", run_clean)
    sweep.add_argument("--all", action="store_true", help="cargo's target/ as well")
    return top


def setup(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """Everything that does not depend on our own sources."""
    require(steps.take("vLLM environment", ensure_vllm))
    require(steps.take("tiny model", ensure_model))
    require(steps.take("etcd", ensure_etcd))


def build(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """The release binary."""
    require(steps.take("dscli", build_binary))


def wheel(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """The wheel, where vLLM finds it."""
    require(steps.take("vLLM environment", ensure_vllm))
    require(steps.take("wheel", ensure_wheel))


def run_demo(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """Installs what is missing, then shows it."""
    if arguments.stop:
        step.say("stopped" if running.end_leftovers() else "nothing was running")
        return
    setup(arguments, steps)
    require(steps.take("wheel", ensure_wheel))
    require(steps.take("demo", lambda: demo.run_demo(arguments.json, arguments.nodes, keep=arguments.keep)))


def run_test(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """All checks; the table comes at the end whatever happens."""
    test.run_all(steps, with_vllm=not arguments.without_vllm, fuzz_seconds=arguments.fuzz_seconds)


def run_lint(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """The checks that run no product code."""
    require(steps.take("vLLM environment", ensure_vllm))
    test.lint(steps)


def run_bench(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """Builds, then measures."""
    require(steps.take("dscli", build_binary))
    if arguments.json is not None:
        arguments.json.unlink(missing_ok=True)
    parts = [arguments.only] if arguments.only else parts_of(arguments.nodes)
    if "worker" in parts:
        require(steps.take("bench", lambda: bench.run_bench(arguments.json)))
    if "vllm" in parts and VLLM.exists():
        setup(arguments, steps)
        require(steps.take("wheel", ensure_wheel))
        require(steps.take("bench with vLLM", lambda: engine_bench.run_engine_bench(arguments.json)))
    elif "vllm" in parts:
        step.note("the rows with vLLM are left out: `./dev setup` installs it")
    if "integrity" in parts:
        require(steps.take("bench of checksums", lambda: integrity_bench.run_integrity_bench(arguments.json)))
    if between := [part for part in parts if part in nodes_bench.PARTS]:
        require(steps.take("bench between nodes", lambda: nodes_bench.run_nodes_bench(arguments.json, between)))
    if arguments.peers:
        require(steps.take("peers", lambda: comparison.run_peers(arguments.json)))


def parts_of(nodes: int | None) -> list[str]:
    """What is measured on so many nodes, or on as many as there can be."""
    has_two = nodes == 2 or (nodes is None and namespaces.are_allowed())
    network = () if nodes == 1 else OF_NETWORK
    return [*(() if nodes == 2 else ALONE), *network, *(nodes_bench.PARTS if has_two else ())]


def run_chaos(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """Installs what is missing, then disturbs it."""
    setup(arguments, steps)
    require(steps.take("wheel", ensure_wheel))
    require(
        steps.take("chaos", lambda: chaos.run_chaos(arguments.minutes, arguments.seed, arguments.json, arguments.only))
    )


def run_soak(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """Installs what is missing, then waits."""
    wheel(arguments, steps)
    require(steps.take("etcd", ensure_etcd))
    require(steps.take("soak", lambda: soak.run_soak(arguments.minutes, arguments.json)))


def run_fuzz(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """The decoders, for a given time each."""
    require(steps.take("fuzz", lambda: checks.fuzz(arguments.seconds)))


def run_sanitize(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """Minutes, since everything is built anew."""
    require(steps.take("rust address sanitizer", checks.rust_sanitizer))


def run_pin(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """New pins, to be committed."""
    require(steps.take("pins", pin_requirements))


def run_clean(arguments: argparse.Namespace, steps: step.Steps) -> None:
    """Back to a fresh clone."""
    require(steps.take("clean", lambda: clean.run_clean(everything=arguments.all)))


def require(passed: bool) -> None:
    """Ends the command when a step that the next ones build on has failed."""
    if not passed:
        raise SystemExit(1)


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command; 130 when it was interrupted."""
    arguments = parser().parse_args(words)
    if getattr(arguments, "json", None) is not None:
        arguments.json = arguments.json.absolute()
    interrupt.on_termination()
    steps = step.Steps()
    try:
        arguments.run(arguments, steps)
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been ended", file=sys.stderr)
        return 130
    except Failure as failure:
        step.show(failure)
        return 1
    finally:
        if len(steps.outcomes) > 1:
            print("\n" + steps.table(), flush=True)
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
