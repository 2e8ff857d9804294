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

    def of(self, path: str | Path) -> InputError:
        """The same error with the file that it is about."""
        return InputError(self.message, path=path, place=self.place, remedy=self.remedy)


class UnboundShapeError(InputError):
    """
    An input of a graph has dimensions that the file leaves open.

    `suggestion` is what would bind them, as `NAME=1,DIM`, with `DIM` where a number is wanted.
    """

    def __init__(self, message: str, *, path: str | Path | None = None, place: str | None, suggestion: str) -> None:
        super().__init__(message, path=path, place=place, remedy=f"bind them with --shape {suggestion}")
        self.suggestion = suggestion

    def of(self, path: str | Path) -> UnboundShapeError:
        """The same error with the file that it is about."""
        return UnboundShapeError(self.message, path=path, place=self.place, suggestion=self.suggestion)


class CancelledError(MemplanError):
    """The user asked to stop; whatever was under way left nothing behind."""


FOREIGN_FAILURES: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What code of others may raise that is run on what a file or a user's model holds."""
