"""`./dev demo`: the guide's deployment on this machine, real vLLM answering through Chariot, next to a plain vLLM.

Prefill, data worker, decode, proxy and a plain vLLM are started as the guide does; the same prompts go through the
proxy and to the plain instance, one by one and eight at once. The run fails when a token differs or when decode
computes more than one token of any prompt. With two nodes, prefill and decode are in network namespaces of their own,
the KV cache crosses from one to the other, and both are asked at the same time: decode then computes by itself what is
no longer than a block, sooner than it could come.
"""

import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from tools import running, step
from tools.checkout import TINY_MODEL
from tools.failure import Failure
from tools.guide_deployment import DEMO_LOGS, GUIDE_MODEL, Deployment, start_deployment
from tools.services.data_worker import DataWorker
from tools.traffic.handoff import handoff_seconds
from tools.traffic.openai_client import Completion, post, stream, tokenize
from tools.traffic.prompts import Tokenize, prompt
from tools.traffic.step_log import StepLog
from tools.vllm_environment import locked

GUIDE_PROMPT = "who is the presiden of the united states?"

PROMPT_LENGTHS = (20, 500, 1500, 4000)
AT_ONCE = 8
OUTPUT_TOKENS = 32
TIMED_PROMPTS = 5
TIMED_TOKENS = 2
DECODE_MAY_COMPUTE = 1
BLOCK_TOKENS = 128
"""Of vLLM's blocks, on a CPU."""


@dataclass
class Row:
    """One prompt length of the table; the names are those of the JSON file."""

    prompt_tokens: int
    tokens_equal: bool
    decode_computed_tokens: int
    kv_bytes: int
    ttft_ms: float
    plain_ttft_ms: float
    handoff_ms: float | None = None
    """From prefill's last layer to the last byte in decode's cache."""


def run_demo(json_file: Path | None, nodes: int, *, keep: bool) -> str:
    """Runs the whole demo. Tools, model and wheel must be there."""
    with locked("the demo"), ExitStack() as cleanup:
        running.end_leftovers()
        deployment = start_deployment(cleanup, nodes, outlives_parent=keep)
        show_guide_request(deployment)
        rows = measure(deployment)
        print(table(rows), flush=True)
        if json_file is not None:
            json_file.write_text(
                json.dumps({"nodes": nodes, "prompts": [asdict(row) for row in rows]}, indent=2) + "\n"
            )
            step.note(f"table written to {json_file}")
        judge([row for row in rows if is_carried(deployment, row.prompt_tokens)])
        if keep:
            cleanup.pop_all()
            step.say("left running; `./dev demo --stop` ends it")
            print(curl_line(deployment.proxy.url), flush=True)
    return f"{len(PROMPT_LENGTHS)} prompts alone, {AT_ONCE} at once"


def show_guide_request(deployment: Deployment) -> None:
    """Sends the guide's own request through the proxy and shows both sides of it."""
    step.say("the guide's request")
    print(curl_line(deployment.proxy.url), flush=True)
    request = {"model": GUIDE_MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 50, "temperature": 0}
    replies = [post(f"{url}/v1/completions", request) for url in (deployment.proxy.url, deployment.plain.url)]
    texts = [reply["choices"][0]["text"] for reply in replies]
    step.note(f"through Chariot: {texts[0]!r}")
    step.note(f"plain vLLM:      {texts[1]!r}")
    if texts[0] != texts[1]:
        raise Failure("the guide's request gives another text through Chariot than from a plain vLLM")


def curl_line(url: str) -> str:
    """The guide's step 4, to be pasted into a shell."""
    body = json.dumps({"model": GUIDE_MODEL, "prompt": GUIDE_PROMPT, "max_tokens": 50, "temperature": 0})
    return f"curl -X POST -s {url}/v1/completions -H 'Content-Type: application/json' -d '{body}'"


def is_carried(deployment: Deployment, prompt_tokens: int) -> bool:
    """Whether decode must have the prompt's cache from prefill, and not compute it while prefill does."""
    return deployment.nodes == 1 or prompt_tokens > BLOCK_TOKENS


def measure(deployment: Deployment) -> list[Row]:
    """A row for each prompt length alone, then one for each prompt of the mix that is sent at once."""
    tokens = tokenizer(deployment)
    rows = []
    for index, length in enumerate(PROMPT_LENGTHS):
        step.say(f"a prompt of about {length} tokens")
        row = compare(deployment, [prompt(length, seed=index, tokenize=tokens)])[0]
        row.ttft_ms, row.plain_ttft_ms, row.handoff_ms = times(deployment, length, seeds=1000 * (index + 1))
        rows.append(row)
    step.say(f"{AT_ONCE} prompts at once")
    carried = [length for length in PROMPT_LENGTHS if is_carried(deployment, length)]
    lengths = [carried[index % len(carried)] for index in range(AT_ONCE)]
    rows += compare(
        deployment, [prompt(length, seed=100 + index, tokenize=tokens) for index, length in enumerate(lengths)]
    )
    return rows


def tokenizer(deployment: Deployment) -> Tokenize:
    """Counts with the tokenizer of the plain instance."""
    return lambda text: tokenize(deployment.plain.url, text)


def compare(deployment: Deployment, prompts: Sequence[str]) -> list[Row]:
    """Sends the prompts at once through the proxy, then to the plain instance, and compares tokens and work."""
    steps = StepLog(deployment.decode.log)
    carried = carried_bytes(deployment.worker)
    chariot = at_once(deployment.proxy.url, prompts)
    expected_steps = sum(len(item.token_ids) for item in chariot)
    computed = steps.settled(lambda found: found.prompt_tokens + found.generation_tokens >= expected_steps)
    carried = carried_bytes(deployment.worker) - carried
    plain = at_once(deployment.plain.url, prompts)
    total = sum(item.prompt_tokens for item in chariot)
    # Decode's steps are shared by the prompts of one call; what it computed beyond one token each counts for all.
    beyond = computed.prompt_tokens - len(prompts)
    return [
        Row(
            prompt_tokens=ours.prompt_tokens,
            tokens_equal=ours.token_ids == theirs.token_ids and len(ours.token_ids) == OUTPUT_TOKENS,
            decode_computed_tokens=DECODE_MAY_COMPUTE + beyond,
            kv_bytes=round(carried * ours.prompt_tokens / total),
            ttft_ms=milliseconds(ours.first_token_seconds),
            plain_ttft_ms=milliseconds(theirs.first_token_seconds),
        )
        for ours, theirs in zip(chariot, plain, strict=True)
    ]


def at_once(url: str, prompts: Sequence[str]) -> list[Completion]:
    """All prompts in flight together."""
    with ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(lambda text: stream(url, text, OUTPUT_TOKENS), prompts))


def times(deployment: Deployment, length: int, seeds: int) -> tuple[float, float, float | None]:
    """Median milliseconds to the first streamed token, through Chariot and plain, and of Chariot's handoff.

    Over prompts that no cache has seen.
    """
    tokens = tokenizer(deployment)
    chariot, plain, handoffs = [], [], []
    for seed in range(seeds, seeds + TIMED_PROMPTS):
        text = prompt(length, seed, tokens)
        # The two are timed in turns, so that a busy moment of the machine meets both.
        sent_at = time.time()
        chariot.append(stream(deployment.proxy.url, text, TIMED_TOKENS).first_token_seconds)
        if is_carried(deployment, length):
            handoffs.append(handoff_seconds(deployment.prefill.url, deployment.decode.url, sent_at))
        plain.append(stream(deployment.plain.url, text, TIMED_TOKENS).first_token_seconds)
    return median_ms(chariot), median_ms(plain), median_ms(handoffs) if handoffs else None


def median_ms(seconds: Sequence[float]) -> float:
    """The median in milliseconds."""
    return milliseconds(statistics.median(seconds))


def milliseconds(seconds: float) -> float:
    """To a tenth: more digits than that would be noise."""
    return round(1000 * seconds, 1)


def carried_bytes(worker: DataWorker) -> int:
    """Payload bytes that decode's worker has had from others, or that clients found in it if it is alone."""
    status = worker.status()
    cluster = status["cluster"]
    found = cluster["received_bytes"] if isinstance(cluster, dict) else status["hit_bytes"]
    if not isinstance(found, int):
        raise Failure(f"`dscli status --json` has `{found!r}` where a number of bytes is expected")
    return found


def judge(rows: Sequence[Row]) -> None:
    """Equal tokens alone prove nothing, a connector that does nothing has them: all three must hold for each prompt."""
    wrong = [row.prompt_tokens for row in rows if not row.tokens_equal]
    recomputed = [row.prompt_tokens for row in rows if row.decode_computed_tokens != DECODE_MAY_COMPUTE]
    unmoved = [row.prompt_tokens for row in rows if row.kv_bytes < (row.prompt_tokens - 1) * kv_bytes_per_token()]
    if wrong:
        raise Failure(f"tokens differ from plain vLLM's for prompts of {wrong} tokens", f"logs are in {DEMO_LOGS}")
    if recomputed:
        raise Failure(f"decode recomputed prompts of {recomputed} tokens", f"see {DEMO_LOGS / 'decode.log'}")
    if unmoved:
        raise Failure(
            f"too little KV went through the worker for prompts of {unmoved} tokens", f"logs are in {DEMO_LOGS}"
        )


def kv_bytes_per_token() -> int:
    """Bytes of K and V that the tiny model keeps for one token, all layers together, as float32."""
    model = json.loads((TINY_MODEL / "config.json").read_text())
    head = model["hidden_size"] // model["num_attention_heads"]
    size: int = 2 * model["num_hidden_layers"] * model["num_key_value_heads"] * head * 4
    return size


def table(rows: Sequence[Row]) -> str:
    """The rows for a person."""
    heads = (
        "sent",
        "prompt tokens",
        "tokens equal",
        "computed by decode",
        "KV carried",
        "TTFT Chariot",
        "TTFT plain",
        "ratio",
        "handoff",
    )
    cells = [
        (
            "alone" if number < len(PROMPT_LENGTHS) else "at once",
            str(row.prompt_tokens),
            "yes" if row.tokens_equal else "NO",
            str(row.decode_computed_tokens),
            f"{row.kv_bytes / 2**20:.2f} MiB",
            f"{row.ttft_ms:.1f} ms",
            f"{row.plain_ttft_ms:.1f} ms",
            # Of those sent at once, each side takes them in an order of its own.
            f"{row.ttft_ms / row.plain_ttft_ms:.2f}" if number < len(PROMPT_LENGTHS) else "",
            f"{row.handoff_ms:.1f} ms" if row.handoff_ms is not None else "",
        )
        for number, row in enumerate(rows)
    ]
    widths = [max(len(line[column]) for line in [heads, *cells]) for column in range(len(heads))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in [heads, *cells]]
    return "\n" + "\n".join(lines) + "\n"
