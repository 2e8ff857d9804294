"""What a rank ran: the framework, and whether it trained or served, as far as its profile tells."""

from __future__ import annotations

import re

from memplan.core.resources import table
from memplan.findings.kernel_bounds import column_codes
from memplan.findings.rank_case import RankCase

_MOST_NAMES = 2000
"""Names of kernels that are looked at; a graph of MindSpore names all of them alike."""


def software_of(case: RankCase) -> frozenset[str]:
    """
    Words for what `case` ran, of those that `frameworks.json` knows: `torch` or `MindSpore`, `training` or `serving`.

    Whoever wrote the profile tells the framework, or how its kernels are called; kernels that only one of the two has
    tell the use, logs of an engine, and where neither does arguments of Megatron. What nothing tells is left out.
    """
    known = table("memplan.findings", "frameworks.json")
    found: set[str] = set()
    framework = known["producers"].get(case.profile.producer)
    types = column_codes(case.kernels.type).values if case.kernels is not None else []
    if framework is None and case.kernels is not None:
        names = [case.kernels.name[row] for row in case.computing_rows[:_MOST_NAMES].tolist()]
        named = sum(bool(re.search(known["MindSpore kernels"], name)) for name in names)
        framework = "MindSpore" if 2 * named > len(names) else None
    if framework is not None:
        found.add(framework)
    if any(re.search(known["training kernels"], text) for text in types):
        return frozenset({*found, "training"})
    served = case.profile.cache_use() is not None or bool(case.profile.sleeps())
    if served or any(re.search(known["serving kernels"], text) for text in types):
        found.add("serving")
    elif case.profile.groups.sizes:
        found.add("training")
    return frozenset(found)
