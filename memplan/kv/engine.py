"""
Serving engines as data: how each version lays out pages, what blocks it takes, how it shares memory.

Tables change from release to release, so every `engine-*.json` in this folder states one version of one engine with
its source, and a new release is a new file.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.hardware import Chip


@dataclass(frozen=True, slots=True)
class EntryFormat:
    """
    Bytes of one cached vector: `entry_bytes` whatever its width, else its elements and `extra_elements` more.

    `alignment` is what a page of them is padded to a multiple of.
    """

    element_bytes: int
    extra_elements: int
    entry_bytes: int | None
    alignment: int

    def size(self, elements: int) -> int:
        """Bytes of a vector of `elements`."""
        return self.entry_bytes or (elements + self.extra_elements) * self.element_bytes


@dataclass(frozen=True, slots=True)
class IndexFormat:
    """Bytes of an indexer's key: its elements and one scale for every `scale_group` of them."""

    element_bytes: int
    scale_bytes: int
    scale_group: int
    alignment: int = 1

    def size(self, elements: int) -> int:
        """Bytes of a key of `elements`."""
        return elements * self.element_bytes + elements // self.scale_group * self.scale_bytes


@dataclass(frozen=True, slots=True)
class CompressedBlocks:
    """Blocks of DeepSeek-V4 at one block size: tokens of a window's block, rows of a state's block by ratio, pads."""

    window: int
    states: Mapping[int, int]
    index_pad: int | None
    main_pad: int | None


@dataclass(frozen=True, slots=True)
class CompressedLayout:
    """
    How DeepSeek-V4's caches are kept.

    `counts_entries` says a block holds `block_size` compressed entries, otherwise that it spans as many tokens.
    `by_ratio` gives each ratio its own group; `whole_tuples` allocates every page size for every tuple of layers.
    `blocks` is by block size, `None` for any.
    """

    counts_entries: bool
    by_ratio: bool
    whole_tuples: bool
    formats: Mapping[str, EntryFormat]
    index: IndexFormat
    index_c8: IndexFormat | None
    blocks: Mapping[int | None, CompressedBlocks]


@dataclass(frozen=True, slots=True)
class LatentLayout:
    """
    How latent caches are kept, and with them the indexer's keys: in the latent's page or in pages of their own.

    `packed_tile` is how many elements share a scale where latent, positions and scales are packed into one entry.
    """

    formats: Mapping[str, EntryFormat]
    index: IndexFormat
    index_c8: IndexFormat | None
    index_in_page: bool
    index_kept_by_shared: bool
    packed_tile: int | None


@dataclass(frozen=True, slots=True)
class Engine:
    """
    One engine, version and generation of chip.

    `in_flight_batches` says that windows must hold the tokens of every batch under way, not of one. `state_rule` is
    how pages of recurrent states and of attention are made equal: `cover` grows attention blocks by
    `state_alignment` tokens until they cover a state, `equal_keys` makes the keys of a block exactly as large as a
    state. `utilization` is the share of the chip's memory the engine plans with. `hybrid` is false where only full
    attention is known to be kept, `paged` where there are no pages at all. `dispatch_tokens` is the most tokens of a
    rank that expert dispatch keeps buffers for, `None` where the engine has no such buffers.
    """

    name: str
    engine: str
    version: str
    source: str
    families: tuple[str, ...]
    default_block_size: int
    block_sizes: tuple[int, ...] | None
    utilization: float
    batched_tokens: int
    in_flight_batches: bool
    kv_bytes: Mapping[str, int]
    default_kv: str
    latent: LatentLayout
    state_rule: str
    state_alignment: int
    compressed: CompressedLayout | None
    hybrid: bool
    paged: bool
    dispatch_tokens: int | None

    def in_flight_tokens(self, batched_tokens: int, *, asynchronous: bool, pipeline: int) -> int:
        """Most tokens scheduled and not yet finished; asynchronous scheduling overlaps two batches."""
        if not self.in_flight_batches:
            return batched_tokens
        return batched_tokens * (2 if asynchronous and pipeline == 1 else pipeline)


def _entry_format(row: Mapping[str, Any]) -> EntryFormat:
    return EntryFormat(
        element_bytes=row.get("element_bytes", 0),
        extra_elements=row.get("extra_elements", 0),
        entry_bytes=row.get("entry_bytes"),
        alignment=row.get("alignment", 1),
    )


def _index_format(row: Mapping[str, Any]) -> IndexFormat:
    return IndexFormat(row["element_bytes"], row["scale_bytes"], row["scale_group"], row.get("alignment", 1))


def _compressed(row: Mapping[str, Any] | None) -> CompressedLayout | None:
    if row is None:
        return None
    blocks: dict[int | None, CompressedBlocks] = {}
    for size, entry in row["blocks"].items():
        pads = entry.get("pads", {})
        blocks[None if size == "*" else int(size)] = CompressedBlocks(
            window=entry["window"],
            states={int(ratio): rows for ratio, rows in entry["states"].items()},
            index_pad=pads.get("index"),
            main_pad=pads.get("main"),
        )
    return CompressedLayout(
        counts_entries=row["counts_entries"],
        by_ratio=row["by_ratio"],
        whole_tuples=row["whole_tuples"],
        formats={name: _entry_format(entry) for name, entry in row["formats"].items()},
        index=_index_format(row["index"]),
        index_c8=_index_format({**row["index"], **row["index"]["c8"]}) if "c8" in row["index"] else None,
        blocks=blocks,
    )


def _engine(document: Mapping[str, Any], row: Mapping[str, Any]) -> Engine:
    index = row["latent"]["indexer"]
    c8 = index.get("c8")
    allowed = row["block"]["allowed"]
    return Engine(
        name=row["name"],
        engine=document["engine"],
        version=document["version"],
        source=document["source"],
        families=tuple(row["families"]),
        default_block_size=row["block"]["default"],
        block_sizes=None if allowed is None else tuple(allowed),
        utilization=row["utilization"],
        batched_tokens=row["batched_tokens"],
        in_flight_batches=row["in_flight_batches"],
        kv_bytes=row["kv_bytes"],
        default_kv=row["default_kv"],
        latent=LatentLayout(
            formats={name: _entry_format(entry) for name, entry in row["latent"]["formats"].items()},
            index=_index_format(index),
            index_c8=None if c8 is None else _index_format({**index, **c8}),
            index_in_page=index["in_page"],
            index_kept_by_shared=index["kept_by_shared"],
            packed_tile=row["latent"].get("packed_tile"),
        ),
        state_rule=row["states"]["rule"],
        state_alignment=row["states"]["alignment"],
        compressed=_compressed(row.get("compressed")),
        hybrid=row.get("hybrid", True),
        paged=row.get("paged", True),
        dispatch_tokens=row.get("dispatch_tokens"),
    )


@functools.cache
def engines() -> tuple[Engine, ...]:
    """Every engine of the data files, ordered by name."""
    found: list[Engine] = []
    for file in resources.files("memplan.kv").iterdir():
        if file.name.startswith("engine-") and file.name.endswith(".json"):
            document = table("memplan.kv", file.name)
            rows = {row["name"]: row for row in document["variants"]}
            found += [_engine(document, {**rows.get(row.get("like"), {}), **row}) for row in rows.values()]
    return tuple(sorted(found, key=lambda item: item.name))


def engine(name: str, chip: Chip | None = None) -> Engine:
    """
    The engine called `name` in full, or the one version and generation that `name` and `chip` settle.

    Raises `InputError` listing the candidates, or the nearest names for an unknown one.
    """
    wanted = name.casefold()
    exact = next((item for item in engines() if item.name == wanted), None)
    if exact is not None:
        return exact
    begins = [item for item in engines() if wanted in (item.engine, f"{item.engine}-{item.version}")]
    if chip is not None and len(begins) > 1:
        begins = [item for item in begins if chip.family in item.families]
        if not begins:
            raise InputError(f"{name} is not known for {chip.name}", remedy="name the engine in full")
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise InputError(f"{name!r} is several engines: {', '.join(item.name for item in begins)}")
    near = difflib.get_close_matches(wanted, [item.name for item in engines()], n=1, cutoff=0)
    raise InputError(f"no engine is called {name!r:.60}", remedy=f"nearest: {', '.join(near)}")
