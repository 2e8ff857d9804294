"""
The engines' files: how each version lays out pages, what blocks it takes, how it plans and shares memory.

Tables change from release to release, so every `engine-*.json` in this folder states one version of one engine with
its source, and a new release is a new file.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.core.units import GIB, MIB
from memplan.hardware import Chip
from memplan.kv.engine import (
    AttentionBackend,
    DraftRules,
    Engine,
    HeldRules,
    PlannerRules,
    ProfileRules,
    RuntimeRules,
    SchedulingRules,
    StateRules,
    StepDefaults,
    TowerRules,
)
from memplan.kv.entry_formats import CompressedBlocks, CompressedLayout, EntryFormat, IndexFormat, LatentLayout
from memplan.kv.loaded_weights import AllocatorRules, MxExpertRules
from memplan.kv.sequence_lengths import LengthRules
from memplan.kv.token_rules import token_pool_rules

_MX_EXPERTS = ("width", "hidden", "scale_rows", "scales_twice", "bias_bytes")


def _entry_format(row: Mapping[str, Any]) -> EntryFormat:
    return EntryFormat(
        element_bytes=row.get("element_bytes", 0),
        extra_elements=row.get("extra_elements", 0),
        entry_bytes=row.get("entry_bytes"),
        alignment=row.get("alignment", 1),
        window_bytes=row.get("window_bytes"),
        window_stride=row.get("window_stride", 1),
        state_bytes=row.get("state_bytes"),
    )


def _index_format(row: Mapping[str, Any]) -> IndexFormat:
    return IndexFormat(row["element_bytes"], row["scale_bytes"], row["scale_group"], row.get("alignment", 1))


def _index_formats(row: Mapping[str, Any]) -> Mapping[str, IndexFormat]:
    """The formats by name; the one without a name is the default."""
    others = {name: _index_format({**row, **entry}) for name, entry in row.get("types", {}).items()}
    return {"": _index_format(row), **others}


def _backend(row: Mapping[str, Any]) -> AttentionBackend:
    spread = row.get("context_parallel")
    return AttentionBackend(
        name=row["name"],
        attention=row["attention"],
        kv=row["kv"],
        kernel_blocks=tuple(row["kernel_blocks"]),
        beside=tuple(row.get("beside", ())),
        families=tuple(row.get("families", ())),
        head_sizes=tuple(row.get("head_sizes", ())),
        most_head=row.get("most_head"),
        most_heads=row.get("most_heads"),
        context_parallel=None if spread is None else tuple(spread),
        context_whole=row.get("context_whole", False),
        any_block=row.get("any_block", False),
        windows_first=row.get("windows_first"),
        media=row.get("media", "any"),
        block_outermost=row.get("block_outermost", False),
        own_layouts=row.get("own_layouts", False),
    )


def _compressed(row: Mapping[str, Any]) -> CompressedLayout:
    blocks: dict[int | None, CompressedBlocks] = {}
    for size, entry in row["blocks"].items():
        pads = entry.get("pads", {})
        blocks[None if size == "*" else int(size)] = CompressedBlocks(
            window=entry["window"],
            states={int(ratio): rows for ratio, rows in entry["states"].items()},
            index_pad=pads.get("index"),
            main_pad=pads.get("main"),
            window_pad=pads.get("window"),
        )
    return CompressedLayout(
        counts_entries=row["counts_entries"],
        by_ratio=row["by_ratio"],
        whole_tuples=row["whole_tuples"],
        ratios=tuple(row["ratios"]),
        ring_rows=row.get("ring_rows", 0),
        native_block=row.get("native_block"),
        slots=row.get("slots", False),
        page_tokens=row.get("page_tokens"),
        folded_ratio=row.get("folded_ratio"),
        runner=row.get("runner"),
        tensor=tuple(row.get("tensor", ())),
        formats={name: _entry_format(entry) for name, entry in row["formats"].items()},
        indexes=_index_formats(row["index"]),
        blocks=blocks,
    )


def _held(row: Mapping[str, Any]) -> HeldRules:
    twice = tuple(row.get("twice", ()))
    blocks, experts = row.get("allocator"), row.get("mxfp4_experts")
    return HeldRules(
        row.get("copies", {}),
        row["compressed_bytes"],
        twice,
        row.get("streams"),
        None
        if blocks is None
        else AllocatorRules(*(blocks[f"{name}_mib"] * MIB for name in ("least", "step", "kept"))),
        None if experts is None else MxExpertRules(**{name: experts[name] for name in _MX_EXPERTS}),
    )


def _profile(row: Mapping[str, Any]) -> ProfileRules:
    names = ("logit_bytes", "vocabulary_bytes", "hidden_copies", "data_buffer_mb")
    runtime = _runtime(row["runtime"]) if "runtime" in row else None
    return ProfileRules(**{name: row[name] for name in names if name in row}, runtime=runtime)


def _runtime(row: Mapping[str, Any]) -> RuntimeRules:
    (small, large), (least, most) = row["device_gib"], row["seen_mib"]
    device, seen = (small * GIB, large * GIB), (least * MIB, most * MIB)
    return RuntimeRules(row["alone_mib"] * MIB, row["joined_mib"] * MIB, row["on"], device, seen)


def _planner(row: Mapping[str, Any]) -> PlannerRules:
    return PlannerRules(**{**row, "shared_types": tuple(row.get("shared_types", ()))})


def _lengths(row: Mapping[str, Any]) -> LengthRules:
    return LengthRules(
        first=tuple(row.get("first", ())),
        unscaled=tuple(row.get("unscaled", ())),
        scaled_models=tuple(row.get("scaled_models", ())),
        unscaled_with_original=row.get("unscaled_with_original", False),
        yarn_from_original=row.get("yarn_from_original", False),
        longrope_original=row.get("longrope_original", False),
        tokenizer=row.get("tokenizer", False),
        variable=row["variable"],
    )


def _drafting(row: Mapping[str, Any]) -> DraftRules:
    pipelined = row.get("pipelined")
    return DraftRules(
        None if pipelined is None else tuple(pipelined),
        row.get("models_pipelined", True),
        tuple(row.get("counted_by_stage", ())),
        tuple(row.get("named_apart", ())),
        {name: tuple(methods) for name, methods in row.get("methods", {}).items()},
    )


def _scheduling(row: Mapping[str, Any]) -> SchedulingRules:
    ahead = row.get("ahead_in_pipelines", False)
    return SchedulingRules(
        row["asynchronous"],
        row["in_flight_batches"],
        tuple(ahead) if isinstance(ahead, list) else ahead,
        tuple(row.get("not_with", ())),
    )


def _engine(document: Mapping[str, Any], row: Mapping[str, Any]) -> Engine:
    index, states = row["latent"]["indexer"], row["states"]
    allowed = row["block"]["allowed"]
    return Engine(
        name=row["name"],
        engine=document["engine"],
        version=document["version"],
        source=document["source"],
        usual=document.get("usual", False),
        families=tuple(row["families"]),
        default_block_size=row["block"]["default"],
        forced_block=row["block"].get("forced"),
        compressed_block=row["block"].get("compressed"),
        block_sizes=None if allowed is None else tuple(allowed),
        utilization=row["utilization"],
        batched_tokens=row["batched_tokens"],
        step_defaults=tuple(
            StepDefaults(entry["least_gib"] * GIB, entry["tokens"], entry["sequences"])
            for entry in row.get("step_defaults", ())
        ),
        untyped=tuple(document.get("untyped", ())),
        media_tokens=document.get("media_tokens", {}),
        kv_bytes=row["kv_bytes"],
        kv_scale_bytes=row.get("kv_scale_bytes", {}),
        default_kv=row["default_kv"],
        refused_kv=tuple(row.get("refused_kv", ())),
        kv_as_model=document.get("kv_as_model", False),
        lengths=_lengths(document["lengths"]) if "lengths" in document else None,
        unplanned_kv=document.get("unplanned_kv", {}),
        checkpoint_kv=row.get("checkpoint_kv", False),
        unpiped=tuple(row.get("unpiped", ())),
        unnamed_unpiped=tuple(row.get("unnamed_unpiped", ())),
        unserved=tuple(row.get("unserved", ())),
        expanded=tuple(row.get("expanded", ())),
        context_unchecked=tuple(row.get("context_unchecked", ())),
        context_headed=tuple(row.get("context_headed", ())),
        checks_heads=row.get("checks_heads", False),
        towers=TowerRules(**{name: tuple(types) for name, types in document.get("towers", {}).items()}),
        plain_experts=row.get("plain_experts", True),
        workspace_share=row.get("workspace_share", 0.0),
        token_pools=token_pool_rules(row["token_pools"]) if "token_pools" in row else None,
        drafting=_drafting(document.get("drafting", {})),
        latent=LatentLayout(
            formats={name: _entry_format(entry) for name, entry in row["latent"]["formats"].items()},
            indexes=_index_formats(index),
            index_in_page=index["in_page"],
            index_kept_by_shared=index["kept_by_shared"],
            index_repeated=index.get("repeated", False),
            packed_tile=row["latent"].get("packed_tile"),
        ),
        states=StateRules(
            rule=states["rule"],
            alignment=states["alignment"],
            latent_alignment=states.get("latent_alignment"),
            prefix_caching=states.get("prefix_caching", False),
            checkpoints=states.get("checkpoints", {}),
            unmarked=tuple(states.get("unmarked", ())),
            whole=tuple(states.get("whole", ())),
            alone=tuple(states.get("alone", ())),
            by_stage=states.get("by_stage", False),
            pads_attention=states.get("pads_attention", False),
            undrafted=tuple(states.get("undrafted", ())),
        ),
        compressed=tuple(_compressed(layout) for layout in row.get("compressed", ())),
        backends=tuple(_backend(backend) for backend in row.get("backends", ())),
        planner=_planner(row.get("planner", {})),
        scheduling=_scheduling(row["scheduling"]),
        hybrid=row.get("hybrid", True),
        paged=row.get("paged", True),
        dispatch_tokens=row.get("dispatch_tokens"),
        held=_held(row["held"]) if "held" in row else None,
        named_kernels=row.get("named_kernels", False),
        counts_used=row.get("counts_used", False),
        profile=_profile(row.get("profile", {})),
    )


@functools.cache
def engines() -> tuple[Engine, ...]:
    """Every engine of the data files, ordered by name and version, then as in their file."""
    found: list[Engine] = []
    for file in resources.files("memplan.kv").iterdir():
        if file.name.startswith("engine-") and file.name.endswith(".json"):
            document = table("memplan.kv", file.name)
            rows = {row["name"]: row for row in document["variants"]}
            found += [_engine(document, {**rows.get(row.get("like"), {}), **row}) for row in rows.values()]
    return tuple(sorted(found, key=lambda item: (item.engine, item.version)))


def engine(name: str, chip: Chip | None = None) -> Engine:
    """
    The engine called `name` in full, or the one that `name` and `chip` settle.

    Of an engine named without a version the one for the chip's generation is taken, or without any the first of those
    for other devices; of several versions the one that its file calls the usual one. Raises `InputError` listing the
    candidates, or the nearest names for an unknown one.
    """
    wanted = name.casefold()
    exact = next((item for item in engines() if item.name == wanted), None)
    if exact is not None:
        return exact
    begins = [item for item in engines() if wanted in (item.engine, f"{item.engine}-{item.version}")]
    if not begins:
        near = difflib.get_close_matches(wanted, [item.name for item in engines()], n=1, cutoff=0)
        raise InputError("no engine is called {!r:.60}", name, remedy=Sentence("nearest: {}", (", ".join(near),)))
    usual = [item for item in begins if item.usual] or begins
    elsewhere = [item for item in usual if not item.families]
    if elsewhere:
        return elsewhere[0]
    if len(usual) == 1:
        return usual[0]
    if chip is None:
        raise InputError("{!r} is several engines: {}", name, ", ".join(item.name for item in usual))
    fitting = [item for item in usual if chip.family in item.families]
    if not fitting:
        raise InputError("{} is not known for {}", name, chip.name, remedy="name the engine in full")
    return fitting[0]
