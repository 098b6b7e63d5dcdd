"""Two instances in both roles and one worker between them: a cache that requests, turns and instances share.

Their own KV cache is small, so that what is found again was in the worker and nowhere else.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from conftest import FreshPrompt
from deployment import BLOCK_TOKENS, CACHE_CAN_BE_RESET, WORKER_FLAGS, Answer, Deployment, answer, on_worker
from tools.services.data_worker import start_worker
from tools.services.ports import HOST, free_ports
from tools.services.service import Service, stop_together
from tools.services.vllm_instance import start_vllm
from tools.traffic.metrics import external_hits, preemptions
from tools.traffic.openai_client import Completion, complete, post
from tools.traffic.step_log import StepLog

# 80 blocks of 32 tokens.
SMALL_KV_CACHE = "10M"
KV_CACHE_TOKENS = 80 * BLOCK_TOKENS
URGENT, PATIENT = 0, 10


@dataclass
class Cluster:
    """The two instances, and plain vLLM, which knows the right answers."""

    first: Service
    second: Service
    plain: Service

    def ask(self, engine: Service, prompt: list[int]) -> Answer:
        """The answer of one instance, which must be plain vLLM's."""
        given = answer(engine.url, engine, [prompt])
        assert given.tokens == [complete(self.plain.url, prompt, len(given.tokens[0])).token_ids]
        return given


@pytest.fixture(scope="module")
def cluster(logs: Path, deployment: Deployment) -> Iterator[Cluster]:
    """Two instances that were started alike."""
    [port] = free_ports(1)
    with ExitStack() as cleanup:
        worker = start_worker(f"{HOST}:{port}", logs / "shared-cache", *WORKER_FLAGS)
        cleanup.callback(worker.stop)
        engines: list[Service] = []
        cleanup.callback(stop_together, engines)
        for name in ("first", "second"):
            flags = ("--max-model-len", "2048", "--scheduling-policy", "priority")
            options = on_worker(worker.address, "kv_both", *flags, **CACHE_CAN_BE_RESET)
            engines.append(start_vllm(f"shared-cache-{name}", replace(options, kv_cache=SMALL_KV_CACHE), logs))
        first, second = (engine.wait_healthy() for engine in engines)
        yield Cluster(first, second, deployment.plain)


def test_an_instance_that_never_saw_a_prompt_computes_its_last_token(
    cluster: Cluster, fresh_prompt: FreshPrompt
) -> None:
    for tokens in (BLOCK_TOKENS, 500, 1333):
        prompt = fresh_prompt(tokens)
        assert cluster.ask(cluster.first, prompt).computed.prompt_tokens == tokens
        assert cluster.ask(cluster.second, prompt).computed.prompt_tokens == 1


def test_a_prompt_outlives_the_prefix_cache_of_vllm(cluster: Cluster, fresh_prompt: FreshPrompt) -> None:
    flushed, pushed_out = fresh_prompt(500), fresh_prompt(600)
    cluster.ask(cluster.first, flushed)
    assert post(f"{cluster.first.url}/reset_prefix_cache", {}) == {"success": True}
    assert cluster.ask(cluster.first, flushed).computed.prompt_tokens == 1

    cluster.ask(cluster.first, pushed_out)
    for _ in range(2):
        cluster.ask(cluster.first, fresh_prompt(KV_CACHE_TOKENS // 2))
    hits = external_hits(cluster.first.url)
    assert cluster.ask(cluster.first, pushed_out).computed.prompt_tokens == 1
    assert external_hits(cluster.first.url) - hits == len(pushed_out), "the cache was meant to be too small for it"


def test_documents_that_requests_share_are_computed_once(cluster: Cluster, fresh_prompt: FreshPrompt) -> None:
    """Retrieval-augmented generation, as far as prefixes go: whole blocks of documents are never computed again."""
    guide, manual = fresh_prompt(700), fresh_prompt(411)
    questions = [fresh_prompt(length) for length in (20, 33, 40, 25, 31)]
    both = guide + manual
    for engine, context, question, known in (
        (cluster.first, guide, questions[0], 0),
        (cluster.second, guide, questions[1], len(guide)),
        (cluster.second, both, questions[2], len(guide)),
        (cluster.first, both, questions[3], len(both)),
        (cluster.first, guide, questions[4], len(guide)),
    ):
        asked = cluster.ask(engine, context + question)
        assert asked.computed.prompt_tokens == len(context + question) - known // BLOCK_TOKENS * BLOCK_TOKENS


def test_a_turn_of_a_chat_computes_what_the_user_has_added(cluster: Cluster, fresh_prompt: FreshPrompt) -> None:
    """Answers are in the cache as prompts are, and turns go to the instances in turn, as behind any load balancer."""
    chat = fresh_prompt(200)
    known = 0
    for turn in range(6):
        engine = cluster.first if turn % 2 else cluster.second
        asked = cluster.ask(engine, chat)
        assert asked.computed.prompt_tokens == len(chat) - known // BLOCK_TOKENS * BLOCK_TOKENS
        [reply] = asked.tokens
        # The last token that was generated was computed by nobody.
        known = len(chat) + len(reply) - 1
        chat = chat + list(reply) + fresh_prompt(30 + turn)


def test_requests_that_give_way_to_urgent_ones_come_back_without_recompute(
    cluster: Cluster, fresh_prompt: FreshPrompt
) -> None:
    engine, output_tokens = cluster.first, 300
    prompts = [fresh_prompt(410 + 17 * index) for index in range(6)]

    def ask(number: int) -> Completion:
        priority = URGENT if number % 2 else PATIENT
        return complete(engine.url, prompts[number], output_tokens, priority=priority)

    preempted, hits = preemptions(engine.url), external_hits(engine.url)
    steps = StepLog(engine.log)
    with ThreadPoolExecutor(len(prompts)) as pool:
        ours = [item.token_ids for item in pool.map(ask, range(len(prompts)))]
    assert preemptions(engine.url) > preempted, "the KV cache was meant to be too small for all"
    needed = sum(len(prompt) + output_tokens - 1 for prompt in prompts)
    done = steps.settled(lambda found: found.prompt_tokens + found.generation_tokens >= needed)
    assert done.prompt_tokens + done.generation_tokens == needed
    assert external_hits(engine.url) > hits or done.prompt_tokens == sum(map(len, prompts))
    assert ours == [complete(cluster.plain.url, prompt, output_tokens).token_ids for prompt in prompts]
