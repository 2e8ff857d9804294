"""What memplan says when it can't go on: one line naming the file, the place and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from memplan.core.sentence import Sentence, Text


class MemplanError(Exception):
    """
    Base of every error that memplan raises on purpose; `str()` is one line fit for a user.

    `template` has a place for each of `values`, so that the line can be said in another language.
    """

    def __init__(self, template: str, *values: object) -> None:
        self.sentence = Sentence(template, values)
        super().__init__(self.said(str))

    def said(self, translate: Callable[[str], str]) -> str:
        """The line in the language that `translate` turns templates and words into."""
        return " ".join(self.sentence.said(translate).split())


class InputError(MemplanError):
    """
    Input that can't be used: a file, an option or a value.

    `message` says what is wrong, with a place for each of `values`; `path` and `place` (byte, line, row, field) where,
    `remedy` what to do. A place that is a plain string is a name, the same in every language.
    """

    def __init__(
        self,
        message: Text,
        *values: object,
        path: str | Path | None = None,
        place: Text | None = None,
        remedy: Text | None = None,
    ) -> None:
        what = Sentence(message, values) if isinstance(message, str) else message
        self.message = what
        self.path = Path(path) if path is not None else None
        self.place = place
        self.remedy = Sentence(remedy) if isinstance(remedy, str) else remedy
        line = what if self.remedy is None else Sentence("{}; {}", (what, self.remedy))
        for where in (place, path):
            line = line if where is None else Sentence("{}: {}", (where, line))
        super().__init__(line.text, *line.values)

    def of(self, path: str | Path) -> InputError:
        """The same error with the file that it is about."""
        return InputError(self.message, path=path, place=self.place, remedy=self.remedy)


class UnboundShapeError(InputError):
    """
    An input of a graph has dimensions that the file leaves open.

    `suggestion` is what would bind them, as `NAME=1,DIM`, with `DIM` where a number is wanted.
    """

    def __init__(
        self, message: Text, *values: object, path: str | Path | None = None, place: Text | None, suggestion: str
    ) -> None:
        remedy = Sentence("bind them with --shape {}", (suggestion,))
        super().__init__(message, *values, path=path, place=place, remedy=remedy)
        self.suggestion = suggestion

    def of(self, path: str | Path) -> UnboundShapeError:
        """The same error with the file that it is about."""
        return UnboundShapeError(self.message, path=path, place=self.place, suggestion=self.suggestion)


def reason(error: OSError) -> Sentence:
    """What the system says is wrong with a file."""
    return Sentence(error.strerror or str(error))


class CancelledError(MemplanError):
    """The user asked to stop; whatever was under way left nothing behind."""


FOREIGN_FAILURES: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What code of others may raise that is run on what a file or a user's model holds."""
