"""Shows on two instances what they need not compute: a prompt, a document, a turn of a chat, each seen by the other one.

    python3 ask.py FIRST_URL SECOND_URL MODEL

Prints for each request how many tokens its prompt has, and how many of them came from the data worker, from the instance's
own prefix cache, or were computed.
"""

import json
import sys
import time
import urllib.request

LOADED = "vllm:external_prefix_cache_hits_total"
KEPT = "vllm:prefix_cache_hits_total"
DOCUMENT = " ".join(
    f"Paragraph {number}: goods of class {number % 7} are kept for {number} days."
    for number in range(80)
)


def main(first: str, second: str, model: str) -> None:
    """Asks the two instances in turn."""
    document = f"{DOCUMENT} (Read at {time.time()}.)"
    print("one document, three questions")
    for url, question in (
        (first, "What is paragraph 3 about?"),
        (second, "And paragraph 5?"),
        (first, "Sum it up."),
    ):
        ask(url, model, [{"role": "user", "content": f"{document}\n\n{question}"}])

    print("a chat whose turns go to the instances in turn")
    chat = [{"role": "user", "content": f"Tell me of the following. {document}"}]
    for turn, words in enumerate(
        ("Go on.", "Say more.", "Shorter, please.", "Thank you.")
    ):
        answer = ask((first, second)[turn % 2], model, chat)
        chat += [
            {"role": "assistant", "content": answer},
            {"role": "user", "content": words},
        ]


def ask(url: str, model: str, messages: list[dict[str, str]]) -> str:
    """One answer, and a line about it. A lower `priority` is more urgent; it needs --scheduling-policy priority."""
    loaded, kept = count(url, LOADED), count(url, KEPT)
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": 64,
        "temperature": 0,
        "priority": 0,
    }
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as reply:
        answer = json.load(reply)
    tokens = answer["usage"]["prompt_tokens"]
    loaded, kept = count(url, LOADED) - loaded, count(url, KEPT) - kept
    # The last token of a prompt is computed in any case: its output is the first of the answer.
    computed = max(1, tokens - loaded - kept)
    print(
        f"  {url}: {tokens:5} tokens, {loaded:5} from the data worker, {kept:5} from its own cache, {computed:5} computed"
    )
    return str(answer["choices"][0]["message"]["content"])


def count(url: str, metric: str) -> int:
    """What the instance has counted so far."""
    with urllib.request.urlopen(f"{url}/metrics") as reply:
        lines = reply.read().decode().splitlines()
    return sum(
        int(float(line.rsplit(" ", 1)[1]))
        for line in lines
        if line.startswith(f"{metric}{{")
    )


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
