"""All figures of a KV budget as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from memplan.gui.model.kv.kv_budget import Answer, budget_headline, warnings
from memplan.gui.model.kv.kv_further import Further
from memplan.gui.model.kv.kv_pools import Parts
from memplan.gui.model.sheet import Sheet, SheetCell

_HEADER = ("part", "of", "figure", "value", "unit", "source")
_Row = tuple[SheetCell, ...]


def budget_sheet(found: Answer, more: Further | None = None) -> Sheet:
    """What was chosen, the memory of the die, the pool, its groups, and every answer; unknown values are empty."""
    rows: list[_Row] = [("choice", "", "command", found.choice.command_line, "", "")]
    for field in fields(found.choice):
        value = getattr(found.choice, field.name)
        rows.append(("choice", "", field.name, str(value) if isinstance(value, bool | Path) else value, "", ""))
    rows += [("memory", "", item.name, item.nbytes, "bytes", str(item.source)) for item in found.result.items]
    rows += _pool(found)
    rows += _answers(found)
    notes = [budget_headline(found), *warnings(found), *found.result.notes]
    if more is not None and more.choice == found.choice:
        rows += _further(more)
        notes += more.notes
    rows += [("note", "", "", str(note), "", "") for note in notes]
    return Sheet(_HEADER, rows)


def _parts(part: str, of: str, parts: Parts) -> list[_Row]:
    return [(part, of, field.name, getattr(parts, field.name), "bytes", "") for field in fields(parts)]


def _pool(found: Answer) -> list[_Row]:
    pool, picture = found.result.pool, found.pool
    block = "blocks" if picture.shares else "bytes"
    rows: list[_Row] = [
        ("pool", "", "blocks", picture.blocks, block, ""),
        ("pool", "", "null blocks", picture.null_blocks, block, ""),
        ("pool", "", "blocks per request", picture.blocks_per_sequence, block, ""),
        ("pool", "", "blocks wanted", picture.needed, block, ""),
        ("pool", "", "blocks free", picture.free, block, ""),
        ("pool", "", "blocks too few", picture.missing, block, ""),
        ("pool", "", "planned per block", pool.planned_per_block, "bytes", ""),
        ("pool", "", "allocated per block", pool.allocated_per_block, "bytes", ""),
        ("pool", "", "admission check per block", pool.bytes_per_block, "bytes", ""),
        ("pool", "", "allocated", pool.allocated_bytes, "bytes", ""),
        ("pool", "", "max concurrency", pool.max_concurrency, "requests", ""),
    ]
    for number, share in enumerate(picture.shares, start=1):
        name = f"{number}: {share.kind.value} ({', '.join(share.parts)})"
        rows += [
            ("group", name, "groups alike", share.groups, "groups", ""),
            ("group", name, "caches in each", share.caches, "caches", ""),
            ("group", name, "tokens of a block", share.tokens, "tokens", ""),
            ("group", name, "blocks of a sequence in each", share.blocks, "blocks", ""),
            *(("group", name, "page", page, "bytes", "") for page in share.pages),
            *_parts("block", name, share.block),
            *_parts("sequence", name, share.sequence),
        ]
    return rows


def _answers(found: Answer) -> list[_Row]:
    result = found.result
    units = {
        "fixed_bytes_per_request": "bytes",
        "bytes_per_token": "bytes",
        "logical_fixed_bytes": "bytes",
        "logical_bytes_per_token": "bytes",
        "waste_bytes": "bytes",
        "missing_bytes": "bytes",
        "available_bytes": "bytes",
        "tokens": "tokens",
        "context": "tokens",
        "prefix_granularity": "tokens",
        "sequences": "sequences",
    }
    rows: list[_Row] = [("answer", "", name, getattr(result, name), unit, "") for name, unit in units.items()]
    rows += [("answer", "", name, getattr(result, name), "", "") for name in ("model", "chip", "engine", "stage")]
    rows.append(("answer", "", "fits", "yes" if result.fits else "no", "", ""))
    if result.refusal is not None:
        rows.append(
            ("answer", "", "longest context the engine would start with", result.refusal.estimated_length, "tokens", "")
        )
    return rows


def _further(more: Further) -> Sequence[_Row]:
    rows: list[_Row] = [("answer", "", "longest context of the batch", more.longest, "tokens", "")]
    for name, tier in more.tiers.items():
        rows += [
            ("tier", name, "size", tier.nbytes, "bytes", ""),
            ("tier", name, "tokens", tier.tokens, "tokens", ""),
            ("tier", name, "restore a sequence", tier.restore_ns, "ns", tier.rests_on),
        ]
    if more.recompute_ns is not None:
        rows.append(("tier", "", "recompute a sequence", more.recompute_ns, "ns", ""))
    for way in more.ways:
        name = f"{way.option} {way.value}"
        rows.append(("fits instead", name, "sequences", way.result.sequences, "sequences", ""))
        rows.append(("fits instead", name, "context", way.result.context, "tokens", ""))
        rows.append(("fits instead", name, "dies", way.result.dies, "dies", ""))
    for effect in more.effects:
        name, value = f"{effect.option} = {effect.value}", effect.result
        rows.append(
            ("effect", name, "sequences", None if value is None else value.sequences, "sequences", effect.refused)
        )
        if value is not None:
            rows.append(("effect", name, "bytes per token", value.bytes_per_token, "bytes", ""))
            rows.append(("effect", name, "fixed per request", value.fixed_bytes_per_request, "bytes", ""))
    return rows
