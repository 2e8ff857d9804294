"""Answers to a KV choice that take too long to follow a slider: longest context, other memory, other options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.gui.model.kv_budget import Line, Words
from memplan.gui.model.kv_choice import KvChoice
from memplan.kv.questions import Case, Effect, MemoryTier, longest_context, memory_tier, usual_effects
from memplan.progress import Progress, silent
from memplan.units import format_bytes, format_duration, parse_bytes


@dataclass(frozen=True, slots=True)
class Further:
    """
    `longest` context of the batch in tokens (0: none), memory `tiers` outside the die by name, what bringing a
    sequence back competes with, `recompute_ns`, and what other options would do.
    """

    choice: KvChoice
    longest: int
    tiers: Mapping[str, MemoryTier]
    recompute_ns: int | None
    effects: tuple[Effect, ...]


def further(choice: KvChoice, progress: Progress = silent) -> Further:
    """The slow answers to `choice`; raises `InputError` where there are none, and stops where `progress` says so."""
    case = choice.case()
    progress(0, 3, "longest context")
    longest = longest_context(case, choice.batch or 1)
    progress(1, 3, "memory outside the die")
    asked = (("host", choice.host_memory, "h2d"), ("pool", choice.pooled_memory, "ub_host"))
    tiers = {name: memory_tier(case, parse_bytes(size), link) for name, size, link in asked if size.strip()}
    recompute = _recompute_ns(case) if tiers else None
    progress(2, 3, "other options")
    return Further(choice, longest, tiers, recompute, usual_effects(case) if choice.effects else ())


def _recompute_ns(case: Case) -> int:
    """Time to prefill one sequence of the context on each data-parallel rank."""
    from memplan.models.steps import Phase, Step
    from memplan.serving import step_time

    step = Step(Phase.PREFILL, case.layout.data, case.options.length, precision=case.memory.precision)
    return step_time(case.model, case.layout, step, case.chip).duration_ns


def further_lines(found: Further, positions: int) -> list[Line]:
    """The slow answers as lines; `positions` is the longest context of the model."""
    remark = Words("the model's own limit") if found.longest >= positions else Words("then the pool is full")
    batch = f"{found.choice.batch or 1:,}"
    lines = [Line(Words("longest context for {} at once", (batch,)), Words("{}", (f"{found.longest:,}",)), remark)]
    for name, tier in found.tiers.items():
        back = "unknown" if tier.restore_ns is None else format_duration(tier.restore_ns)
        lines.append(
            Line(
                Words("tokens in {} of {} memory", (format_bytes(tier.nbytes), name)),
                Words("{}", (f"{tier.tokens:,}",)),
                Words("a sequence back over {}: {} ({})", (tier.link, back, tier.rests_on)),
            )
        )
    if found.recompute_ns is not None:
        lines.append(
            Line(
                Words("recomputing a sequence instead"),
                Words("{}", (format_duration(found.recompute_ns),)),
                Words("{} tokens", (f"{found.choice.context:,}",)),
            )
        )
    return lines
