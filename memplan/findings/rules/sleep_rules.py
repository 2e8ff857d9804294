"""Engines that sleep between rollout and training: memory that they keep, and more of it with each sleep."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from memplan.core.sentence import Sentence
from memplan.core.units import format_bytes
from memplan.findings.finding import Confidence, Evidence, Finding, threshold
from memplan.findings.job_case import JobCase
from memplan.traces.logs.sleep_log import SleepUse

_FEWEST = 3
"""Sleeps that tell growth from what the first leaves behind: workspaces that all later ones use again."""


def sleep_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every worker whose log tells of its sleeps, what was never freed before what grows."""
    for rank, facts in job.ranks.items():
        for use in facts.case.profile.sleeps():
            yield from _kept(rank, use) if _frees_little(use) else _growth(rank, use)


def _frees_little(use: SleepUse) -> bool:
    """Whether every sleep freed next to nothing of what was in use."""
    least = threshold("sleep_freed_share")
    return all(freed < least * (freed + kept) for freed, kept in zip(use.freed, use.kept, strict=True))


def _kept(rank: int, use: SleepUse) -> Iterator[Finding]:
    known = [size for size in (use.weights, use.cache) if size is not None]
    # More than is there can't be freed, whatever the start of the log says.
    lost = min(sum(known), max(use.kept)) - max(use.freed) if known else None
    yield Finding(
        kind="sleep.kept",
        title=Sentence(
            "The engine sleeps and frees {}: {} of the device stay in use",
            (format_bytes(max(use.freed)), format_bytes(max(use.kept))),
        ),
        rank=rank,
        cost_ns=None,
        cost_bytes=lost,
        bound="weights and KV cache off the device while the engine sleeps",
        formula="weights and KV cache as the log tells them at the start, less what sleeping freed",
        confidence=Confidence.DERIVED,
        evidence=_facts(use),
    )


def _growth(rank: int, use: SleepUse) -> Iterator[Finding]:
    """The first sleep leaves what later ones use again; what comes on top of it with each is kept for nothing."""
    if len(use.kept) < _FEWEST:
        return
    steps = [later - before for before, later in pairwise(use.kept)]
    more = use.kept[-1] - use.kept[0]
    # One rise alone is no growth, however large: a workspace that a longer prompt needed.
    rises = sum(step > 0 for step in steps)
    often = rises > 1 and rises >= threshold("late_share") * len(steps)
    # What never falls back is told from what comes and goes; two rounded figures may differ by one unit without it.
    steady = min(steps) >= 0 and round(more / threshold("sleep_rounded_bytes")) > 1
    if not often or not (steady or more >= threshold("sleep_growth_share") * use.kept[0]):
        return
    yield Finding(
        kind="sleep.growth",
        title=Sentence(
            "The engine keeps more memory with each sleep: {} after the first of {}, {} after the last",
            (format_bytes(use.kept[0]), f"{len(use.kept):,}", format_bytes(use.kept[-1])),
        ),
        rank=rank,
        cost_ns=None,
        cost_bytes=more,
        bound="as much in use after each sleep as after the first",
        formula="in use after the last sleep - in use after the first",
        confidence=Confidence.MEASURED,
        evidence=(Evidence("more with each sleep, on average", round(more / len(steps)), "bytes"), *_facts(use)),
    )


def _facts(use: SleepUse) -> tuple[Evidence, ...]:
    figures: tuple[tuple[str, int | str | None, str], ...] = (
        ("sleeps", len(use.kept), "count"), ("freed by the last", use.freed[-1], "bytes"),
        ("in use after it", use.kept[-1], "bytes"), ("weights", use.weights, "bytes"),
        ("KV cache", use.cache, "bytes"), ("worker", use.worker or None, ""), ("told by", use.source, ""),
    )  # fmt: skip
    return tuple(Evidence(label, value, unit) for label, value, unit in figures if value is not None)
