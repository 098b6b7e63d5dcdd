"""What a router says of a request, in `kv_transfer_params`, and what it is told in return.

The fields that vLLM's own connectors use, and three more: `decode_worker` names the data worker of the instance that
decodes the request, `prefill_is_done` tells a prefill that has ended from one that is going on, and `prefill_is_saved`
whether its KV cache is there for others. Whoever sends the request wrote these, so nothing here is believed before it
is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chariot_ds._native import check_address


@dataclass(frozen=True)
class TransferParameters:
    """What a router says of one request."""

    is_decoded_elsewhere: bool = False
    """Another instance decodes it, and the router hands our answer on to that one."""
    is_being_prefilled: bool = False
    """Another instance computes the prompt, and has not answered yet."""
    decode_worker: str | None = None
    """The data worker of the instance that decodes it."""
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
                decode_worker, trouble = None, str(error)
        return cls(
            is_decoded_elsewhere=given.get("do_remote_decode") is True,
            is_being_prefilled=given.get("do_remote_prefill") is True and given.get("prefill_is_done") is not True,
            decode_worker=decode_worker,
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
