"""What runs an op of a family: kernels of which families, and parts before and after them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from memplan.align.classes.op_families import family_table
from memplan.core.resources import table
from memplan.core.sentence import Sentence, Text


@dataclass(frozen=True, slots=True)
class LoweringRule:
    """
    What runs an op of a family: families of the kernel itself (the usual one first) and of parts before and after it.

    `seldom` are parts that it hardly has. `repeats` is whether several such kernels may run it, `written_out` whether
    parts alone may, `piecewise` whether each may do an equal share of it, `first_alone` whether parts work on its first
    operand and on nothing of the size of the others alone.
    """

    kernels: tuple[int, ...]
    parts: frozenset[int]
    repeats: bool
    written_out: bool
    piecewise: bool = False
    seldom: frozenset[int] = frozenset()
    first_alone: bool = False


@cache
def lowering_rules() -> Mapping[int, LoweringRule]:
    """The rules of `lowering.json` by family."""
    known = family_table()
    found = {}
    for name, rule in table("memplan.align", "lowering.json")["ops"].items():
        found[known.number(name)] = LoweringRule(
            tuple(known.number(item) for item in rule["kernels"]),
            frozenset(known.number(item) for item in (*rule["parts"], *rule.get("seldom", ()))),
            bool(rule.get("repeats", False)),
            bool(rule.get("written_out", False)),
            bool(rule.get("piecewise", False)),
            frozenset(known.number(item) for item in rule.get("seldom", ())),
            bool(rule.get("first_alone", False)),
        )
    return found


@cache
def kernel_meanings() -> frozenset[str]:
    """What kernels that run no op of a plan may be, in English words."""
    told = table("memplan.align", "lowering.json")
    around = (entry for entries in told["around_the_optimizer"].values() for entry in entries)
    return frozenset(entry["what"] for entry in (*around, *told["between"], *told["unplanned"]))


def in_words(name: str) -> Text:
    """What a kernel without an op is, as words to translate; `name` itself where it is that of a kernel."""
    return Sentence(name) if name in kernel_meanings() else name


def rule_of(family: int) -> LoweringRule:
    """The rule of a family; one without its own is run by a kernel of that family and nothing else."""
    return lowering_rules().get(family) or LoweringRule((family,), frozenset(), False, False)
