"""A small OpenAI client on the standard library: completions whole or streamed, with the time to the first token."""

import http.client
import json
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tools.failure import Failure
from tools.services.vllm_instance import SERVED_NAME

JsonObject = dict[str, Any]

TIMEOUT_SECONDS = 120


class HttpStatus(Failure):
    """The server answered with another status than 200."""

    def __init__(self, url: str, status: int, body: str) -> None:
        super().__init__(f"{url} answered {status}: {body[:500]}")
        self.status = status
        self.body = body


@dataclass(frozen=True)
class Completion:
    """What came back, and how long its first token took."""

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    first_token_seconds: float
    finish_reason: str | None


Prompt = str | list[int]


def complete(url: str, prompt: Prompt, max_tokens: int = 32, **fields: object) -> Completion:
    """One greedy completion, not streamed; `fields` are added to the request."""
    started = time.monotonic()
    reply = post(f"{url}/v1/completions", completion_request(prompt, max_tokens) | fields)
    [choice] = reply["choices"]
    return Completion(
        text=choice["text"],
        token_ids=tuple(choice["token_ids"] or ()),
        prompt_tokens=reply["usage"]["prompt_tokens"],
        first_token_seconds=time.monotonic() - started,
        finish_reason=choice["finish_reason"],
    )


def stream(url: str, prompt: Prompt, max_tokens: int = 32, **fields: object) -> Completion:
    """One greedy completion, streamed; the time is that of the first event that carries a token."""
    request = completion_request(prompt, max_tokens) | {
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    started = time.monotonic()
    text, prompt_tokens, first, finish = "", 0, None, None
    token_ids: list[int] = []
    for event in events(f"{url}/v1/completions", request | fields):
        if "error" in event:
            raise Failure(f"{url} streamed an error: {event['error']}")
        for choice in event["choices"]:
            if first is None:
                first = time.monotonic() - started
            text += choice["text"]
            token_ids += choice.get("token_ids") or []
            finish = choice["finish_reason"] or finish
        if event.get("usage"):
            prompt_tokens = event["usage"]["prompt_tokens"]
    if first is None:
        raise Failure(f"{url} streamed no token")
    return Completion(text, tuple(token_ids), prompt_tokens, first, finish)


def completion_request(prompt: Prompt, max_tokens: int) -> dict[str, object]:
    """Greedy, and never cut short by an end token, so that outputs of one length are compared."""
    return {
        "model": SERVED_NAME,
        "prompt": prompt,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }


def tokenize(url: str, text: str) -> list[int]:
    """The token ids that vLLM makes of `text`."""
    tokens: list[int] = post(f"{url}/tokenize", {"model": SERVED_NAME, "prompt": text})["tokens"]
    return tokens


def post(url: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> JsonObject:
    """Sends JSON, expects JSON and 200."""
    connection, path = connect(url)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        text = reply.read().decode()
    finally:
        connection.close()
    if reply.status != 200:
        raise HttpStatus(url, reply.status, text)
    answer: JsonObject = json.loads(text)
    return answer


def events(url: str, body: Mapping[str, object], timeout: float = TIMEOUT_SECONDS) -> Iterator[JsonObject]:
    """Server-sent events as parsed JSON, until `[DONE]`. Closing the iterator early closes the connection."""
    connection, path = connect(url, timeout)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise HttpStatus(url, reply.status, reply.read().decode())
        for line in reply:
            if line.startswith(b"data: "):
                payload = line.removeprefix(b"data: ").strip()
                if payload == b"[DONE]":
                    return
                yield json.loads(payload)
    finally:
        connection.close()


def get_text(url: str) -> str:
    """A GET's body; 200 expected."""
    connection, path = connect(url)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read().decode()
    finally:
        connection.close()
    if reply.status != 200:
        raise HttpStatus(url, reply.status, text)
    return text


def connect(url: str, timeout: float = TIMEOUT_SECONDS) -> tuple[http.client.HTTPConnection, str]:
    """A fresh connection, as separate clients would make."""
    parts = urllib.parse.urlsplit(url)
    if parts.hostname is None:
        raise Failure(f"`{url}` has no host")
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout), parts.path or "/"
