"""What a router says of a request, in `kv_transfer_params`, and what it is told in return.

The fields that vLLM's own connectors use, and four more: `decode_worker` names the data worker of the instance that
decodes the request, `pin_seconds` says for how long its prompt is hot, `prefill_is_done` tells a prefill that has ended
from one that is going on, and `prefill_is_saved` whether its KV cache is there for others. Whoever sends the request
wrote these, so nothing here is believed before it is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chariot_ds._native import check_address

LONGEST_PIN = 10 * 366 * 86400
"""Seconds; who wants more wants an end to be said."""


@dataclass(frozen=True)
class TransferParameters:
    """What a router says of one request."""

    is_decoded_elsewhere: bool = False
    """Another instance decodes it, and the router hands our answer on to that one."""
    is_being_prefilled: bool = False
    """Another instance computes the prompt, and has not answered yet."""
    decode_worker: str | None = None
    """The data worker of the instance that decodes it."""
    pin_seconds: float | None = None
    """For how long the prompt's KV cache is kept before others'."""
    trouble: str | None = None
    """Why something that was said is not used."""

    @classmethod
    def of(cls, request: Any) -> TransferParameters:
        """The parameters of a request of vLLM's; never raises."""
        given = request.kv_transfer_params
        if not isinstance(given, dict):
            return cls()
        decode_worker, trouble = given.get("decode_worker"), None
        if decode_worker is not None:
            try:
                check_address(decode_worker)
            except (TypeError, ValueError) as error:
                decode_worker, trouble = None, f"`decode_worker`: {error}"
        pin_seconds = given.get("pin_seconds")
        if pin_seconds is not None and not _is_time(pin_seconds):
            pin_seconds, trouble = None, f"`pin_seconds` is `{pin_seconds!r}`: expected a number above 0"
        return cls(
            is_decoded_elsewhere=given.get("do_remote_decode") is True,
            is_being_prefilled=given.get("do_remote_prefill") is True and given.get("prefill_is_done") is not True,
            decode_worker=decode_worker,
            pin_seconds=pin_seconds,
            trouble=trouble,
        )

    @staticmethod
    def answer(*, is_saved: bool) -> dict[str, Any]:
        """What the router is told when the prompt is computed, and hands on to the decode instance."""
        return {
            "do_remote_prefill": True,
            "do_remote_decode": False,
            "prefill_is_done": True,
            "prefill_is_saved": is_saved,
        }


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LONGEST_PIN
