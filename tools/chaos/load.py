"""A steady load: a few users who ask, compare what they get with plain vLLM's tokens, and ask the next."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tools.failure import Failure
from tools.traffic.openai_client import complete
from tools.traffic.prompts import token_ids

USERS = 3
PROMPTS = 150
SHORTEST, LONGEST = 20, 1200
OUTPUT_TOKENS = 16
MOST_SECONDS = 90.0
"""A request that takes longer hangs: load deadlines and a recompute are over long before."""
RETRY_SECONDS = 0.3


@dataclass(frozen=True)
class Known:
    """A prompt, and what plain vLLM says to it."""

    prompt: list[int]
    tokens: tuple[int, ...]


@dataclass
class Tally:
    """What became of the requests."""

    requests: int = 0
    refused: int = 0
    """Turned away or cut off while what had taken them was killed on purpose; asked again, as a client does."""
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def counts(self) -> tuple[int, int, int, int]:
        """Requests answered, refused, answered wrongly, and failed, so far."""
        return self.requests, self.refused, len(self.wrong), len(self.failed)


def learn(plain: str, seed: int) -> list[Known]:
    """Prompts of all lengths, and plain vLLM's answers to them: more than its caches hold, so most are computed."""
    generator = random.Random(seed)
    prompts = [token_ids(generator.randint(SHORTEST, LONGEST), seed * PROMPTS + index) for index in range(PROMPTS)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda prompt: complete(plain, prompt, OUTPUT_TOKENS), prompts))
    return [Known(prompt, answer.token_ids) for prompt, answer in zip(prompts, answers, strict=True)]


class Load:
    """Users at work, from entering to leaving the `with` block."""

    def __init__(self, proxy: str, known: Sequence[Known], seed: int) -> None:
        self.proxy = proxy
        self.known = known
        self.tally = Tally()
        self.excused_until = 0.0
        """Until then (by the monotonic clock) a request may fail: what it had been given to is killed or just back."""
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._users = [
            threading.Thread(target=self._ask_and_ask, args=(random.Random(seed * USERS + number),), daemon=True)
            for number in range(USERS)
        ]

    def __enter__(self) -> "Load":
        for user in self._users:
            user.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._is_over.set()
        for user in self._users:
            user.join(2 * MOST_SECONDS)

    def excuse(self, seconds: float) -> None:
        """From now on requests may fail, for so long."""
        self.excused_until = max(self.excused_until, time.monotonic() + seconds)

    def _ask_and_ask(self, generator: random.Random) -> None:
        order: list[Known] = []
        while not self._is_over.is_set():
            if not order:
                order = generator.sample(self.known, len(self.known))
            self._ask(order.pop())

    def _ask(self, known: Known) -> None:
        begun = time.monotonic()
        try:
            answer = complete(self.proxy, known.prompt, OUTPUT_TOKENS)
        except (Failure, OSError, ValueError) as failure:
            with self._lock:
                if begun <= self.excused_until:
                    self.tally.refused += 1
                else:
                    self.tally.failed.append(f"{len(known.prompt)} tokens: {type(failure).__name__}: {failure}")
            self._is_over.wait(RETRY_SECONDS)
            return
        seconds = time.monotonic() - begun
        with self._lock:
            self.tally.requests += 1
            self.tally.seconds.append(seconds)
            if answer.token_ids != known.tokens:
                self.tally.wrong.append(f"{len(known.prompt)} tokens: {answer.token_ids} instead of {known.tokens}")
            if seconds > MOST_SECONDS:
                self.tally.failed.append(f"{len(known.prompt)} tokens: took {seconds:.0f} s")
