"""Loads that certainly fail: vLLM, left at its default of failing such requests, answers 200 with the right tokens."""

import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import chariot_ds
from conftest import FreshPrompt
from deployment import Deployment, answer, assert_carried
from tools.session import session_members, signal_process
from tools.traffic.metrics import counter
from tools.traffic.openai_client import Completion, complete

FAILED_BLOCKS = "vllm:chariot_failed_blocks_total"


def test_blocks_whose_writer_hangs_are_recomputed(deployment: Deployment, fresh_prompt: FreshPrompt) -> None:
    prompts = [fresh_prompt(1000) for _ in range(10)]
    failed = counter(deployment.decode.url, FAILED_BLOCKS)
    with prefill_stopped_in_the_middle_of_one(deployment, prompts) as (prompt, prefilled):
        carried = answer(deployment.decode.url, deployment.decode, [prompt])
        assert carried.computed.prompt_tokens == len(prompt)
        assert counter(deployment.decode.url, FAILED_BLOCKS) > failed
    assert carried.tokens == deployment.expected([prompt])
    assert prefilled.result().token_ids == carried.tokens[0][:1]
    assert_carried(deployment, [fresh_prompt(200)])


@contextmanager
def prefill_stopped_in_the_middle_of_one(
    deployment: Deployment, prompts: list[list[int]]
) -> Iterator[tuple[list[int], Future[Completion]]]:
    """Prefill stands still while it writes the blocks of one of `prompts`: everybody finds them, and none gets full.

    The model takes some 40 ms for a prompt, and a busy machine may let that pass: then it is the next one's turn.
    """
    processes = session_members(deployment.prefill.process.pid)
    with chariot_ds.Client(deployment.worker.address) as client, ThreadPoolExecutor(1) as pool:
        for prompt in prompts:
            prefilled = pool.submit(complete, deployment.prefill.url, prompt, 1)
            while client.status()["growing_blocks"] == 0 and not prefilled.done():
                pass
            signal_all(processes, signal.SIGSTOP)
            try:
                if client.status()["growing_blocks"] > 0:
                    yield prompt, prefilled
                    return
            finally:
                signal_all(processes, signal.SIGCONT)
            prefilled.result()
    raise AssertionError(f"prefill was never caught in the middle of {len(prompts)} prompts")


def signal_all(processes: list[int], wanted: signal.Signals) -> None:
    """Signals all at once, as far as that goes."""
    for process in processes:
        signal_process(process, wanted)
