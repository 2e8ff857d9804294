"""What memplan says when it can't go on: one line naming the file, the place and the remedy."""

from __future__ import annotations

from pathlib import Path


class MemplanError(Exception):
    """Base of every error that memplan raises on purpose; `str()` is one line fit for a user."""


class InputError(MemplanError):
    """
    Input that can't be used: a file, an option or a value.

    `message` says what is wrong, `path` and `place` (byte, line, row, field) where, `remedy` what to do.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        place: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.message = message
        self.path = Path(path) if path is not None else None
        self.place = place
        self.remedy = remedy
        where = ": ".join(str(part) for part in (path, place) if part is not None)
        text = f"{where}: {message}" if where else message
        super().__init__(" ".join((f"{text}; {remedy}" if remedy else text).split()))


class CancelledError(MemplanError):
    """The user asked to stop; whatever was under way left nothing behind."""
