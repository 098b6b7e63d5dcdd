"""The one exception that ./dev shows to a person: what failed, and what to do next."""


class Failure(Exception):
    """Ends ./dev with exit code 1; `hint` says what the reader can do about it."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
