"""Runs of one program that msprof recorded once for each set of counters: `PROF_GROUP_<time>/PROF_<set>/PROF_…`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_GROUP = re.compile(r"PROF_GROUP_[\d_]+")


def metric_sets(folders: Sequence[Path]) -> list[list[int]]:
    """
    The places in `folders` that show one card of one group, a group of places each; a folder of no group is alone.

    A set that holds several cards has a folder for each: the first of every set are one card, and so on. Groups of the
    same time are one, wherever their parts were copied to.
    """
    found: dict[tuple[str, int], list[int]] = {}
    seen: dict[tuple[str, str], int] = {}
    for place, folder in enumerate(folders):
        group, name = folder.parent.parent.name, folder.parent.name
        if not _GROUP.fullmatch(group):
            found["", place] = [place]
            continue
        card = seen.get((group, name), 0)
        seen[group, name] = card + 1
        found.setdefault((group, card), []).append(place)
    return list(found.values())
