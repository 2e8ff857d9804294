"""Findings that many ranks share: listed once, for the rank on which they cost most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memplan.core.sentence import Sentence, Text

if TYPE_CHECKING:
    from memplan.findings.finding import Finding

_MOST_ALIKE = 4
"""Ranks on which findings of one kind are listed one by one; of more the dearest stands for all."""


def folded(findings: Sequence[Finding]) -> tuple[list[Finding], dict[str, int]]:
    """
    `findings` of which those of a kind that many ranks have are left out but for the first, which is the dearest.

    With the kinds that are folded comes on how many further ranks each was found.
    """
    ranks: dict[str, set[int]] = {}
    for one in findings:
        if one.rank is not None:
            ranks.setdefault(one.kind, set()).add(one.rank)
    alike = {kind: len(found) - 1 for kind, found in ranks.items() if len(found) > _MOST_ALIKE}
    listed, seen = [], set()
    for one in findings:
        if one.rank is None or one.kind not in alike or one.kind not in seen:
            listed.append(one)
        if one.rank is not None:
            seen.add(one.kind)
    return listed, alike


def ranks_of(one: Finding, further: int) -> Text:
    """The rank of a finding that `further` other ranks have too, in words."""
    if one.rank is None:
        return Sentence("all")
    return Sentence("{} and {} more", (str(one.rank), f"{further:,}")) if further else str(one.rank)
