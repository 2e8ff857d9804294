"""Answers to a KV choice that take too long to follow a slider: longest context, other memory, other options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes, format_duration
from memplan.deployment.cases import (
    Effect,
    MemoryTier,
    longest_context,
    memory_tier,
    recompute_ns,
    time_notes,
    usual_effects,
)
from memplan.deployment.ways_to_serve import WayToServe, nearest_layout, ways_to_serve
from memplan.gui.model.kv.kv_budget import BudgetLine
from memplan.gui.model.session.plan_notes import note_in_words
from memplan.requests.kv_request import KvRequest


@dataclass(frozen=True, slots=True)
class Further:
    """
    What follows from a `choice` of `context` tokens.

    `longest` context of the batch in tokens (0: none), memory `tiers` outside the die by name, what bringing a
    sequence back competes with, `recompute_ns`, and what other options would do. `fitting` is the choice in the
    nearest layout that has room for the batch, `None` where the choice has room itself or none was found. `notes` are
    what is said of the times. `ways` are the changes after which a choice that does not fit does.
    """

    choice: KvRequest
    context: int
    longest: int
    tiers: Mapping[str, MemoryTier]
    recompute_ns: int | None
    effects: tuple[Effect, ...]
    fitting: KvRequest | None
    notes: tuple[Text, ...] = ()
    ways: tuple[WayToServe, ...] = ()


def further(choice: KvRequest, progress: Progress = silent) -> Further:
    """The slow answers to `choice`; raises `InputError` where there are none, and stops where `progress` says so."""
    case, wanted = choice.case(), choice.batch or 1
    progress(0, 4, "ranks that are enough")
    result, fitting = case.budget(), None
    if not result.fits or result.sequences < wanted:
        fitting = nearest_layout(case, wanted, progress=progress)
    ways = () if result.fits else ways_to_serve(case, progress=progress)
    progress(1, 4, "longest context")
    longest = longest_context(case, wanted)
    progress(2, 4, "memory outside the die")
    tiers = {name: memory_tier(case, size, link) for name, (size, link) in choice.memories.items()}
    recompute = recompute_ns(case) if tiers else None
    progress(3, 4, "other options")
    effects = usual_effects(case) if choice.effects else ()
    notes = tuple(map(note_in_words, time_notes(case))) if tiers else ()
    other = None if fitting is None else choice.with_ranks(fitting.result.layout)
    return Further(choice, case.options.length, longest, tiers, recompute, effects, other, notes, ways)


def fitting_text(choice: KvRequest) -> str:
    """The layout of `choice` as the fields are called."""
    ranks = (("TP", choice.tp), ("PP", choice.pp), ("DP", choice.dp), ("EP", choice.ep))
    return ", ".join(f"{name} {count}" for name, count in ranks if count > 1)


def further_lines(found: Further, positions: int) -> list[BudgetLine]:
    """The slow answers as lines; `positions` is the longest context of the model."""
    remark = Sentence("then the pool is full")
    if found.longest >= positions:
        remark = Sentence("the model's own limit")
    elif not found.longest:
        remark = Sentence("not one token fits")
    batch = f"{found.choice.batch or 1:,}"
    lines = [BudgetLine(Sentence("longest for {} at once", (batch,)), f"{found.longest:,}", remark)]
    for name, tier in found.tiers.items():
        back: Text = Sentence("unknown") if tier.restore_ns is None else format_duration(tier.restore_ns)
        lines.append(
            BudgetLine(
                Sentence("tokens in {} of {} memory", (format_bytes(tier.nbytes), Sentence(name))),
                f"{tier.tokens:,}",
                Sentence("a sequence back over {}: {} ({})", (tier.link, back, tier.rests_on)),
            )
        )
    if found.recompute_ns is not None:
        lines.append(
            BudgetLine(
                Sentence("recomputing a sequence instead"),
                format_duration(found.recompute_ns),
                Sentence("{} [token|tokens]", (f"{found.context:,}",)),
            )
        )
    return [*lines, *map(_way_line, found.ways), *map(_effect_line, found.effects)]


def _way_line(way: WayToServe) -> BudgetLine:
    label = Sentence("fits with {} {}: sequences", (way.option, way.value))
    amounts = f"{way.result.context:,}", f"{way.result.dies:,}"
    remark = Sentence("{} [token|tokens] each, {} [die|dies]", amounts)
    return BudgetLine(label, f"{way.result.sequences:,}", remark)


def _effect_line(effect: Effect) -> BudgetLine:
    label = Sentence("{} {}: sequences", (effect.option, effect.value))
    if effect.result is None:
        return BudgetLine(label, Sentence("refused"), effect.refused)
    values = f"{effect.result.bytes_per_token:,.0f}", format_bytes(effect.result.fixed_bytes_per_request)
    return BudgetLine(label, f"{effect.result.sequences:,}", Sentence("{} B a token, {} fixed", values))
