"""Prompts that prefill computes while decode waits for them, and blocks that prefill sends on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from paper_engine import VOCABULARY, Group, PaperEngine
from vllm.v1.request import RequestStatus
from worker import Worker, wait_for

import chariot_ds
from chariot_ds.vllm import compat, scheduler

MakeEngine = Callable[..., PaperEngine]

AWAITED = {"do_remote_prefill": True, "do_remote_decode": False, "remote_host": None}
"""What a router says that asks both sides at once."""
DONE = {**AWAITED, "prefill_is_done": True}
"""What prefill's answer says, and a router hands on."""
READER = "10.0.0.9:31501"
LAYOUTS = [
    pytest.param({}, id="plain"),
    pytest.param({"ranks": 2}, id="two ranks"),
    pytest.param({"runs_ahead": True}, id="running ahead"),
    pytest.param(
        {"groups": (Group(layers=2), Group(layers=2, window=40))},
        id="hybrid",
        marks=pytest.mark.skipif(not compat.REPORTS_FAILED_REQUESTS, reason="cannot be told of failed loads"),
    ),
]


def tokens(count: int, seed: int = 0) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(VOCABULARY) for _ in range(count)]


def forwarded(engine: PaperEngine) -> list[tuple[str, int]]:
    """What one more step sends on: where to, and how many blocks."""
    seen: list[tuple[str, int]] = []
    begin = engine.connector.build_connector_meta

    def watched(output: Any) -> Any:
        metadata = begin(output)
        seen.extend((reader, len(blocks)) for reader, blocks in metadata.forwards.items())
        return metadata

    engine.connector.build_connector_meta = watched  # type: ignore[method-assign]
    engine.step()
    engine.connector.build_connector_meta = begin  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("length", [20, 64, 300])
def test_decode_waits_for_a_prompt_that_prefill_is_about_to_compute(
    engine: MakeEngine, layout: dict[str, Any], length: int
) -> None:
    prefill, decode = engine("kv_producer", **layout), engine("kv_consumer", **layout)
    decode.add("early", tokens(length), outputs=20, transfer=AWAITED)
    prefill.add("at prefill", tokens(length))
    while not prefill.requests["at prefill"].is_finished():
        decode.step()
        prefill.step()
    decode.run()
    assert decode.computed["early"] == 1


def test_a_prefill_that_never_comes_is_given_up_at_the_deadline(engine: MakeEngine) -> None:
    decode = engine("kv_consumer", extra={"chariot.remote_prefill_timeout_ms": 50})
    decode.add("alone", tokens(100), outputs=5, transfer=AWAITED)
    decode.step()
    assert decode.computed["alone"] == 0
    wait_for(lambda: decode.step() or decode.requests["alone"].is_finished())
    assert decode.computed["alone"] == 100


def test_a_prompt_that_comes_bit_by_bit_is_waited_for_as_long_as_it_comes(engine: MakeEngine) -> None:
    prefill = engine("kv_producer", tokens_a_step=16)
    decode = engine("kv_consumer", extra={"chariot.remote_prefill_timeout_ms": 400})
    prefill.add("slow", tokens(160))
    decode.add("waits", tokens(160), transfer=AWAITED)
    for _ in range(10):
        # Half of what is allowed goes by for each block: all of it together takes five times as long.
        began = monotonic()
        wait_for(lambda began=began: decode.step() or monotonic() - began > 0.2)
        prefill.step()
    decode.run()
    assert decode.computed["waits"] == 1


def test_what_there_is_at_the_deadline_is_loaded(engine: MakeEngine) -> None:
    prefill = engine("kv_producer", tokens_a_step=64)
    decode = engine("kv_consumer", extra={"chariot.remote_prefill_timeout_ms": 50})
    prefill.add("half", tokens(200))
    prefill.step()
    decode.add("waits", tokens(200), transfer=AWAITED)
    wait_for(lambda: decode.step() or decode.requests["waits"].is_finished())
    assert decode.computed["waits"] == 200 - 64


@pytest.mark.parametrize("transfer", [None, DONE, {"do_remote_prefill": 1}, {"do_remote_prefill": False}])
def test_a_prompt_that_nobody_computes_is_not_waited_for(engine: MakeEngine, transfer: Any) -> None:
    decode = engine("kv_consumer")
    decode.add("alone", tokens(100), transfer=transfer)
    decode.step()
    assert decode.computed["alone"] == 100


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("length", [1, 16, 100])
def test_prefill_says_that_it_is_done_and_whether_its_cache_is_saved(
    engine: MakeEngine, layout: dict[str, Any], length: int, own_worker: Worker
) -> None:
    prefill = engine("kv_producer", **layout)
    for name, transfer in (("asked", {"do_remote_decode": True}), ("plain", None)):
        prefill.add(name, tokens(length), transfer=transfer)
    answer = {"do_remote_prefill": True, "do_remote_decode": False, "prefill_is_done": True}
    prefill.run()
    assert {**answer, "prefill_is_saved": True}.items() <= prefill.answers["asked"].items()
    assert prefill.answers["plain"] is None
    own_worker.kill()
    prefill.add("lost", tokens(length, seed=1), transfer={"do_remote_decode": True})
    prefill.run()
    assert {**answer, "prefill_is_saved": False}.items() <= prefill.answers["lost"].items()


def test_the_last_tokens_of_a_prompt_are_computed_and_not_waited_for(engine: MakeEngine) -> None:
    decode = engine()
    decode.add("first", tokens(64))
    decode.run()
    decode.add("again", tokens(64) + tokens(9, seed=1), transfer=AWAITED)
    decode.step()
    assert decode.computed["again"] == 9


def test_others_go_on_while_a_request_waits(engine: MakeEngine) -> None:
    decode = engine("kv_consumer")
    decode.add("waits", tokens(100), transfer=AWAITED)
    decode.add("runs", tokens(100, seed=1), outputs=10)
    decode.run("runs")
    assert decode.requests["waits"].status == RequestStatus.WAITING


def test_a_request_that_is_aborted_while_it_waits_leaves_nothing_behind(engine: MakeEngine, own_worker: Worker) -> None:
    decode = engine("kv_consumer")
    decode.add("aborted", tokens(100), transfer=AWAITED)
    for _ in range(3):
        decode.step()
    decode.scheduler.finish_requests("aborted", RequestStatus.FINISHED_ABORTED)
    decode.step()
    assert not decode.scheduler.requests
    assert decode.connector._scheduler is not None
    assert not decode.connector._scheduler._tracked
    with chariot_ds.Client(own_worker.address) as client:
        status = client.status()
    assert (status["waiting"], status["pinned_blocks"]) == (0, 0)


def test_a_preempted_request_is_not_waited_for_again(engine: MakeEngine) -> None:
    prefill = engine("kv_producer", tokens_a_step=512)
    decode = engine("kv_both", blocks=24, prefix_caching=False, tokens_a_step=512)
    for number in range(4):
        prefill.add(str(number), tokens(60, number))
        decode.add(str(number), tokens(60, number), outputs=100, transfer=AWAITED)
    prefill.run()
    decode.run()
    assert sum(request.num_preemptions for request in decode.requests.values()) > 0


@pytest.fixture
def far_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A worker whose index nobody can map, as if on another host: all that it knows must be asked for."""
    monkeypatch.setenv("CHARIOT_RUN_DIR", str(tmp_path / "run"))
    worker = Worker(tmp_path / "worker")
    worker.start()
    for socket in (tmp_path / "run").rglob("*"):
        if socket.is_socket():
            socket.unlink()
    yield worker
    worker.stop()


def test_an_answer_that_takes_time_is_waited_for_between_steps(engine: MakeEngine, far_worker: Worker) -> None:
    prefill = engine("kv_producer", address=far_worker.address)
    decode = engine("kv_consumer", address=far_worker.address)
    prefill.add("saved", tokens(300))
    prefill.run()
    far_worker.freeze()
    try:
        decode.add("loaded", tokens(300))
        for _ in range(3):
            decode.step()
        assert decode.requests["loaded"].status == RequestStatus.WAITING
    finally:
        far_worker.thaw()
    decode.run()
    assert decode.computed["loaded"] == 1


def test_a_worker_that_hangs_costs_one_request_its_deadline(engine: MakeEngine, far_worker: Worker) -> None:
    decode = engine("kv_consumer", address=far_worker.address)
    far_worker.freeze()
    try:
        decode.add("first", tokens(100))
        decode.step()
        assert decode.computed["first"] == 0
        wait_for(lambda: decode.step() or decode.requests["first"].is_finished())
        assert decode.computed["first"] == 100
        decode.add("second", tokens(100, seed=1))
        decode.step()
        assert decode.computed["second"] == 100
    finally:
        far_worker.thaw()
    wait_for(lambda: is_asked_again(decode))


def is_asked_again(decode: PaperEngine) -> bool:
    """Whether the worker, whose answer takes time, is asked about a new request."""
    name = f"try {len(decode.requests)}"
    decode.add(name, tokens(50, seed=len(decode.requests)))
    decode.step()
    is_asked = decode.requests[name].status == RequestStatus.WAITING
    decode.run(name)
    return is_asked


def test_an_aborted_question_is_cancelled(engine: MakeEngine, far_worker: Worker) -> None:
    decode = engine("kv_consumer", address=far_worker.address)
    decode.add("aborted", tokens(300))
    decode.step()
    decode.scheduler.finish_requests("aborted", RequestStatus.FINISHED_ABORTED)
    decode.add("other", tokens(100, seed=1))
    decode.run("other")
    assert decode.connector._scheduler is not None
    assert not decode.connector._scheduler._tracked


@pytest.mark.parametrize("layout", [{}, {"ranks": 2}, {"extra": {"chariot.device_path": "torch"}}])
def test_the_blocks_of_a_prompt_are_sent_on_chunk_by_chunk(engine: MakeEngine, layout: dict[str, Any]) -> None:
    prefill = engine("kv_producer", tokens_a_step=40, **layout)
    prefill.add("chunked", tokens(100), transfer={"do_remote_decode": True, "decode_worker": READER})
    # 40 tokens fill two blocks, 80 five; then the rest, the last block partly filled.
    assert [forwarded(prefill) for _ in range(4)] == [[(READER, 2)], [(READER, 3)], [(READER, 2)], []]
    assert prefill.stats["forwarded_blocks"] == 7 * prefill.options.ranks


def test_blocks_that_were_there_before_are_sent_on_as_well(engine: MakeEngine) -> None:
    prefill = engine("kv_producer")
    prefill.add("first", tokens(100))
    prefill.run()
    prefill.add("again", tokens(100), transfer={"decode_worker": READER})
    assert forwarded(prefill) == [(READER, 7)]


def test_blocks_that_were_loaded_are_sent_on_in_a_step_that_saves_none(engine: MakeEngine) -> None:
    one, other = engine(), engine()
    one.add("first", tokens(96))
    one.run()
    other.add("loaded", tokens(96), transfer={"decode_worker": READER})
    wait_for(lambda: forwarded(other) == [(READER, 6)])
    other.run()
    assert other.computed["loaded"] == 1


def test_readers_of_one_step_get_their_own_blocks(engine: MakeEngine) -> None:
    prefill = engine("kv_producer")
    shared = tokens(32)
    for name, reader in (("a", "10.0.0.1:1"), ("b", "10.0.0.2:1"), ("c", "10.0.0.1:1"), ("d", None)):
        prefill.add(name, shared + tokens(16, seed=ord(name)), transfer={"decode_worker": reader} if reader else None)
    # One message a reader, and a block that two requests share goes once.
    assert sorted(forwarded(prefill)) == [("10.0.0.1:1", 4), ("10.0.0.2:1", 3)]


def test_only_what_the_window_looks_back_on_is_sent_on(engine: MakeEngine) -> None:
    prefill = engine("kv_producer", groups=(Group(layers=2), Group(layers=1, window=24)), tokens_a_step=512)
    prefill.add("hybrid", tokens(160), transfer={"decode_worker": READER})
    assert forwarded(prefill) == [(READER, 10 + 2)]


@pytest.mark.parametrize("reader", ["nowhere", "a:0", "", 7, ["a:1"], "a b:1", "x" * 10_000 + ":1", {"a": 1}])
def test_a_reader_that_cannot_be_is_said_once_and_fails_nothing(
    engine: MakeEngine, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefill = engine("kv_producer")
    said: list[str] = []
    monkeypatch.setattr(scheduler.logger, "warning", lambda text, *rest: said.append(text % rest))
    for number in range(3):
        prefill.add(str(number), tokens(50, number), transfer={"decode_worker": reader})
        assert forwarded(prefill) == []
    prefill.run()
    assert len(said) == 1


def test_a_reader_on_the_same_worker_needs_nothing_sent(engine: MakeEngine, own_worker: Worker) -> None:
    prefill = engine("kv_producer")
    prefill.add("here", tokens(50), transfer={"decode_worker": own_worker.address})
    assert forwarded(prefill) == []
