"""Prompts of a wanted number of tokens, each different from its first words on, so that no cache has seen it."""

import pydoc_data.topics
import random
from collections.abc import Callable
from functools import cache

Tokenize = Callable[[str], list[int]]


def prompt(tokens: int, seed: int, tokenize: Tokenize) -> str:
    """Text of about `tokens` tokens: words drawn by `seed`, cut where the tokenizer counts enough."""
    generator = random.Random(seed)
    words = [f"Question {seed}:"]
    words += generator.choices(vocabulary(), k=tokens)
    low, high = 1, len(words)
    while low < high:
        middle = (low + high) // 2
        if len(tokenize(" ".join(words[:middle]))) < tokens:
            low = middle + 1
        else:
            high = middle
    return " ".join(words[:low])


def token_ids(tokens: int, seed: int) -> list[int]:
    """Exactly `tokens` token ids, special ones left out; for tests that need a length to the token."""
    generator = random.Random(seed)
    return [generator.randrange(300, 2048) for _ in range(tokens)]


@cache
def vocabulary() -> list[str]:
    """Plain words of the language reference that every Python carries."""
    text = " ".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    return sorted({word for word in text.split() if word.isalpha() and len(word) < 12})
