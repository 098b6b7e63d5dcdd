"""`Search`: how much of one request is there to be loaded, found out bit by bit.

The scheduler runs in the engine's loop and must not wait. What the data worker's index shows is known at once; what the
worker has to ask others about is known a little later, and a prompt that another instance computes at this moment is
there when that instance has got to its end. Until then the engine is told to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import NamedTuple, TypeVar

from chariot_ds._native import Lookup
from chariot_ds.vllm.compat import GroupTraits
from chariot_ds.vllm.keys import RequestKeys

_Answer = TypeVar("_Answer")
Block = tuple[int, int, bytes]
"""Where a block ends, its group, its key."""

PAUSE = 0.002
"""Seconds before the data worker is asked again for what was not there."""


class Awaited:
    """A prompt that another instance is said to compute now. It is given up when nothing of it comes for `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until = monotonic() + seconds

    def has_come_further(self) -> None:
        """Some of it is there that was not."""
        self._until = monotonic() + self.seconds

    def is_given_up(self) -> bool:
        """Whether nothing of it has come for too long."""
        return monotonic() > self._until


@dataclass(frozen=True)
class Patience:
    """How long a search goes on."""

    answer_seconds: float
    """A worker that leaves a question unanswered this long counts as absent."""
    awaited: Awaited | None = None
    """What is not there and is waited for; None to take what there is."""


class Sought(NamedTuple):
    """Tokens of a request whose blocks are looked for."""

    start: int
    end: int
    """At most the number of tokens that are known; less where a request goes on that was computed so far."""
    known: int


class Search:
    """Looks for the blocks of some tokens of one request. Dropping it cancels what it has asked."""

    def __init__(
        self,
        lookup: Lookup,
        groups: Sequence[GroupTraits],
        keys: RequestKeys,
        tokens: Sought,
        patience: Patience,
    ) -> None:
        self._lookup = lookup
        self._groups = groups
        self._keys = keys
        self.tokens = tokens
        self.awaited = patience.awaited
        self.gave_up = False
        """What was awaited did not come."""
        self._answer_seconds = patience.answer_seconds
        self._steps = self._find()
        self._open_question: Callable[[], object] | None = None
        self._hit: int | None = None
        self._found_at = 0.0

    def poll(self) -> int | None:
        """How many tokens from the first on are computed or can be loaded; None as long as that is not known.

        Raises `ConnectionError` when the worker does not answer.
        """
        if self._hit is None:
            try:
                next(self._steps)
            except StopIteration as end:
                self._hit, self._found_at = end.value, monotonic()
        return self._hit

    def is_older_than(self, seconds: float) -> bool:
        """Whether the result was found longer ago than that."""
        return self._hit is not None and monotonic() - self._found_at > seconds

    def is_unanswered(self) -> bool:
        """Whether a question is still open. Raises `ConnectionError` once the worker was given up."""
        return self._open_question is not None and self._open_question() is None

    def rests(self) -> bool:
        """Whether nothing is asked at the moment: what is not there yet is given time to come."""
        return self._hit is None and self._open_question is None

    def _find(self) -> Generator[None, None, int]:
        full = [index for index, group in enumerate(self._groups) if group.window is None]
        windowed = [index for index, group in enumerate(self._groups) if group.window is not None]
        start, end, known = self.tokens
        hit = end
        if full:
            blocks = sorted(block for index in full for block in self._keys.blocks(index, start, end))
            present = yield from self._present(blocks)
            if present < len(blocks):
                hit = self._keys.aligned(blocks[present][0] - 1)
        if windowed and hit > start:
            if hit == known and self._lets_go_too_early(windowed):
                hit = self._keys.aligned(known - 1)
            hit = yield from self._windowed_hit(windowed, hit)
        return hit

    def _present(self, blocks: Sequence[Block]) -> Generator[None, None, int]:
        """How many of `blocks` are there from the first on, whole or still being written."""
        question, before, awaited = self._lookup.prefix([(index, key) for _, index, key in blocks]), 0, self.awaited
        while True:
            asked = monotonic()
            present = yield from self._answer(question.present)
            if present == len(blocks) or awaited is None:
                return present
            if awaited.is_given_up():
                self.gave_up = True
                return present
            if present > before:
                before = present
                awaited.has_come_further()
            while monotonic() < asked + PAUSE:
                yield
            question.ask_again()

    def _windowed_hit(self, windowed: Sequence[int], hit: int) -> Generator[None, None, int]:
        """The longest hit of at most `hit` tokens for which sliding windows have all that they look back on."""
        seen = [
            block
            for index in windowed
            for block in self._keys.blocks(index, max(self.tokens.start, hit - self._window(index)), hit)
        ]
        present = yield from self._present(seen)
        if present == len(seen):
            return hit
        blocks = [block for index in windowed for block in self._keys.blocks(index, self.tokens.start, hit)]
        exist = yield from self._answer(self._lookup.exist([(index, key) for _, index, key in blocks]).exist)
        missing = [(end, index) for (end, index, _), there in zip(blocks, exist, strict=True) if not there]

        def lacks_nothing(tokens: int) -> bool:
            return not any(
                end - self._groups[index].block_size < tokens and end > tokens - self._window(index)
                for end, index in missing
            )

        while hit > self.tokens.start and not lacks_nothing(hit):
            hit = self._keys.aligned(hit - 1)
        return max(hit, self.tokens.start)

    def _answer(self, answer: Callable[[], _Answer | None]) -> Generator[None, None, _Answer]:
        self._open_question = answer
        late = monotonic() + self._answer_seconds
        while (found := answer()) is None:
            if monotonic() > late:
                raise ConnectionError(f"the data worker did not answer within {self._answer_seconds} s")
            yield
        self._open_question = None
        return found

    def _lets_go_too_early(self, windowed: Sequence[int]) -> bool:
        """Whether vLLM, told that all tokens are loaded, frees a block that the last one looks back on.

        It frees what the window has passed for the token after the last, and then computes the last again.
        """
        return any(
            self.tokens.known >= self._window(index)
            and (self.tokens.known - self._window(index) + 1) % self._groups[index].block_size == 0
            for index in windowed
        )

    def _window(self, index: int) -> int:
        return self._groups[index].window or 0
