"""KV caches of serving engines: sequences thrown out, a pool that is full, pages that hold no tokens."""

from __future__ import annotations

from collections.abc import Iterator

from memplan.core.sentence import Sentence
from memplan.core.units import format_share
from memplan.findings.finding import Confidence, Evidence, Finding, threshold
from memplan.findings.job_case import JobCase
from memplan.traces.logs.cache_use import CacheUse


def cache_findings(job: JobCase) -> Iterator[Finding]:
    """Findings of every rank whose engine tells of its cache."""
    for rank, facts in job.ranks.items():
        use = facts.case.profile.cache_use()
        if use is not None:
            # A log is of the whole run: beside measured steps, its time is not theirs.
            yield from _short(rank, use, alone=not facts.length_ns)
            yield from _page_ends(rank, use)
            yield from _padding(rank, use)


def _facts(use: CacheUse) -> tuple[Evidence, ...]:
    figures = (
        ("sequences thrown out", use.preemptions, "count"), ("largest share in use", use.usage, "share"),
        ("tokens there is room for", use.tokens, "count"), ("blocks", use.blocks, "count"),
        ("blocks in use at most", use.used_blocks, "count"), ("memory of the cache", use.nbytes, "bytes"),
        ("sequences at once, at most", use.sequences, "count"), ("sequences waiting, at most", use.waiting, "count"),
        ("tokens of a page", use.page_tokens, "count"), ("told by", use.source, ""),
    )  # fmt: skip
    return tuple(Evidence(label, value, unit) for label, value, unit in figures if value is not None)


def _again(use: CacheUse) -> tuple[int, int] | None:
    """Tokens that were computed again, sequences being alike, and the ns that the engine's best rate takes for them."""
    if not (use.preemptions and use.tokens and use.usage and use.sequences and use.prompt_rate):
        return None
    tokens = use.preemptions * use.usage * use.tokens / use.sequences
    return round(tokens), round(tokens / use.prompt_rate * 1e9)


def _short(rank: int, use: CacheUse, *, alone: bool) -> Iterator[Finding]:
    """A cache that holds fewer sequences than run, or than wait."""
    full = (use.usage or 0.0) >= threshold("cache_full_share")
    if not use.preemptions and not (full and use.waiting):
        return
    if use.preemptions:
        kind, title = "kv.preemption", Sentence(
            "The KV cache is over-committed: {} [sequence was|sequences were] "
            "thrown out and computed again", (f"{use.preemptions:,}",)
        )  # fmt: skip
    else:
        kind, title = (
            "kv.full",
            Sentence("The KV cache is full: up to {} [sequence waits|sequences wait] for it", (f"{use.waiting:,}",)),
        )
    again = _again(use)
    evidence = _facts(use)
    if again is not None:
        evidence += (
            Evidence("tokens computed again, about", again[0], "count"),
            Evidence("prompt tokens a second, at most", round(use.prompt_rate or 0), "count"),
        )
    yield Finding(
        kind=kind,
        title=title,
        rank=rank,
        cost_ns=again[1] if again is not None and alone else None,
        cost_bytes=None,
        bound="" if again is None else "a cache that holds what runs",
        formula="as the engine counts them"
        if again is None
        else "sequences thrown out x tokens of one on average / most prompt tokens that the engine computed a second",
        confidence=Confidence.MEASURED if again is None else Confidence.ASSUMED,
        evidence=evidence,
    )


def _page_ends(rank: int, use: CacheUse) -> Iterator[Finding]:
    """Of each sequence half a page is empty on average; with large pages that is much of the cache."""
    if not use.page_tokens or not use.tokens or not use.sequences:
        return
    share = use.sequences * use.page_tokens / 2 / use.tokens
    if share < threshold("page_waste_share"):
        return
    yield Finding(
        kind="kv.pages",
        title=Sentence(
            "Pages of {} [token|tokens] leave about {} of the KV cache empty: half a page of each sequence",
            (f"{use.page_tokens:,}", format_share(min(share, 1.0))),
        ),
        rank=rank,
        cost_ns=None,
        cost_bytes=round(min(share, 1.0) * use.nbytes) if use.nbytes else None,
        bound="pages of one token",
        formula="sequences at once x tokens of a page / 2 / tokens there is room for",
        confidence=Confidence.DERIVED,
        evidence=_facts(use),
    )


def _padding(rank: int, use: CacheUse) -> Iterator[Finding]:
    """States that are padded to fill a page, and layers that are not there, hold memory and no token."""
    # Padding by p makes p / (1 + p) of each state's page empty.
    states = use.page_padding / (1 + use.page_padding) if use.page_padding else 0.0
    share = max(states, use.layer_padding or 0.0)
    if share < threshold("page_waste_share"):
        return
    both = (
        ("pages of states are padded by", use.page_padding),
        ("layers that are not there, at most", use.layer_padding),
    )
    yield Finding(
        kind="kv.padding",
        title=Sentence("Up to {} of the KV cache is padding that holds no token", (format_share(share),)),
        rank=rank,
        cost_ns=None,
        cost_bytes=round(share * use.nbytes) if use.nbytes else None,
        bound="pages that are filled",
        formula="the larger of padding / (1 + padding) of the pages of states and the engine's own bound for layers",
        confidence=Confidence.ASSUMED,
        evidence=(*(Evidence(label, value, "share") for label, value in both if value is not None), *_facts(use)),
    )
