"""Everything of a profile, read."""

from __future__ import annotations

from memplan.core.progress import silent
from memplan.traces.directory import Profile


def read_whole(profile: Profile) -> None:
    """Read every part and every table of every rank."""
    for number in profile.ranks:
        rank = profile.rank(number)
        rank.read_for_window(silent)
        for part in (rank.kernels, rank.allocations, rank.steps, rank.links):
            part()
        for name in rank.tables():
            rank.table(name)
