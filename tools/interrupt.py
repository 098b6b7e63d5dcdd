"""Makes every polite way of being ended the same as Ctrl-C, so that one set of `finally` blocks cleans up."""

import signal
from types import FrameType


def on_termination() -> None:
    """SIGTERM and SIGHUP raise KeyboardInterrupt; during the cleaning-up that follows, further ones are ignored."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for wanted in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(wanted, signal.SIG_IGN)
        raise KeyboardInterrupt

    for wanted in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(wanted, interrupt)
