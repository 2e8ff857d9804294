"""How long work tells its caller how far it has come, and is told to stop."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """
    Called between steps of long work with what is done, what there is in all, and of what.

    The callee raises `memplan.core.errors.CancelledError` to stop the work; workers let it pass.
    """

    def __call__(self, done: int, total: int, what: str) -> None:
        """Report `done` of `total` units of `what`."""


CHOOSING_MOVES = "choosing moves"
"""One more choice of moves is made; `total` is the number of ops of the step."""
SEARCHING_OFFSETS = "search for offsets"
"""A little more of a search for addresses is done: some thousand placements tried."""


def silent(done: int, total: int, what: str) -> None:
    """Progress that nobody watches."""
