"""What an alignment shows of a run that is not the planned step: other numbers of tokens, parts that never ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from memplan.align import Alignment
from memplan.align.classes.op_families import families_of, family_table
from memplan.core.sentence import Sentence
from memplan.core.units import format_share
from memplan.schema import Plan, PlannedOp

_NOTABLE = 0.02
"""Share of the planned compute time from which on a part is spoken of."""
_HARDLY = 1.0 / 3.0
"""Share of a part's planned time that kernels may be taken for although it didn't run: some fit by chance."""
_MOST = 3


def unlike_plan(plan: Plan, alignment: Alignment) -> Iterator[Sentence]:
    """In words, of all that the rank ran and not of one step alone; nothing where it may be the planned step."""
    if alignment.tokens is not None:
        planned, ran = alignment.tokens
        yield Sentence(
            "its products have {} [row|rows] where the plan has {}: another batch or sequence ran",
            (f"{ran:,}", f"{planned:,}"),
        )
    absent, whole = _absent(plan, alignment)
    if absent:
        yield Sentence(
            "hardly anything ran of {} ({} of the planned compute time): another stage or recipe, or a part of a step",
            (", ".join(list(absent)[:_MOST]), format_share(sum(absent.values()) / whole)),
        )


def _absent(plan: Plan, alignment: Alignment) -> tuple[dict[str, int], int]:
    """Planned ns of what hardly ran, by name and the largest first, and of everything that computes."""
    ran, maybe = frozenset(alignment.matches.op.tolist()), frozenset(alignment.unsure.op.tolist())
    planned: Counter[str] = Counter()
    known: Counter[str] = Counter()
    found: Counter[str] = Counter()
    for op in plan.ops:
        if not op.launches or families_of(op.type)[0] in family_table().collectives:
            continue
        name = _group(op)
        planned[name] += op.duration_ns
        known[name] += op.duration_ns if op.index in ran or op.index not in maybe else 0
        found[name] += op.duration_ns if op.index in ran else 0
    whole = planned.total()
    absent = {
        name: time
        for name, time in planned.most_common()
        if name and time >= _NOTABLE * whole and known[name] and found[name] <= _HARDLY * known[name]
    }
    return absent, whole


def _group(op: PlannedOp) -> str:
    """What runs as a whole or not at all: a phase of the layers, a part of the model outside of them."""
    return (op.phase if op.layer is not None else (op.part or "").partition(".")[0]) or ""
