"""`memplan kv CONFIG`: the KV budget of a published language model on one die."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import NO, YES, JsonOption, print_json, print_table
from memplan.core.units import format_bytes, format_duration, parse_bytes

if TYPE_CHECKING:
    from memplan.kv import KvBudget
    from memplan.deployment.cases import Effect, MemoryTier

_SERVING = "Serving"
_MEMORY = "Memory"


def command(
    config: Annotated[Path, typer.Argument(help="A model's config.json, or its folder.", show_default=False)],
    chip: Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910B3 or 910C.")] = "910B3",
    tp: Annotated[int, typer.Option("--tp", help="Ranks of tensor parallelism.", min=1)] = 1,
    pp: Annotated[int, typer.Option("--pp", help="Ranks of pipeline parallelism.", min=1)] = 1,
    dp: Annotated[int, typer.Option("--dp", help="Ranks of data parallelism.", min=1)] = 1,
    ep: Annotated[int, typer.Option("--ep", help="Ranks that share the experts; 1 splits each by TP.", min=1)] = 1,
    cp: Annotated[int, typer.Option("--cp", help="Ranks of context parallelism.", min=1)] = 1,
    context: Annotated[
        int | None, typer.Option("--context", help="Longest sequence in tokens; by default the model's.", min=1)
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Serving engine, such as vllm-ascend, mindie or logical.", rich_help_panel=_SERVING)
    ] = "vllm-ascend",
    block_size: Annotated[int | None, typer.Option(help="Tokens of a block.", rich_help_panel=_SERVING, min=1)] = None,
    max_num_batched_tokens: Annotated[
        int | None, typer.Option(help="Most tokens of one step.", rich_help_panel=_SERVING, min=1)
    ] = None,
    max_num_seqs: Annotated[
        int, typer.Option(help="Most sequences of one step.", rich_help_panel=_SERVING, min=1)
    ] = 256,
    async_scheduling: Annotated[
        bool, typer.Option("--async-scheduling", help="Steps are scheduled ahead.", rich_help_panel=_SERVING)
    ] = False,
    kv_dtype: Annotated[
        str | None, typer.Option(help="bf16, fp8, int8, fp8_ds_mla or sfa_c8.", rich_help_panel=_SERVING)
    ] = None,
    speculative_tokens: Annotated[
        int,
        typer.Option(
            "--num-speculative-tokens", help="Draft tokens by the model's own MTP.", rich_help_panel=_SERVING, min=0
        ),
    ] = 0,
    index_c8: Annotated[
        bool, typer.Option("--index-c8", help="Keys of the indexer in 8 bits.", rich_help_panel=_SERVING)
    ] = False,
    weights: Annotated[
        str,
        typer.Option(help="published, bf16, w8a8, w4a8, mxfp8 or mxfp8-mxfp4.", rich_help_panel=_MEMORY),
    ] = "published",
    utilization: Annotated[
        float | None, typer.Option(help="Share of the memory the engine plans with.", rich_help_panel=_MEMORY)
    ] = None,
    hbm: Annotated[str | None, typer.Option(help="Size of the card, such as 64GiB.", rich_help_panel=_MEMORY)] = None,
    activations: Annotated[
        str | None, typer.Option(help="Peak of activations, in place of the estimate.", rich_help_panel=_MEMORY)
    ] = None,
    graph_memory: Annotated[
        str | None, typer.Option(help="Memory of captured graphs.", rich_help_panel=_MEMORY)
    ] = None,
    hccl_buffsize: Annotated[int, typer.Option(help="HCCL_BUFFSIZE in MB.", rich_help_panel=_MEMORY, min=1)] = 200,
    batch: Annotated[
        int | None,
        typer.Option("--batch", help="Also say the longest context for so many sequences at once.", min=1),
    ] = None,
    host_memory: Annotated[
        str | None,
        typer.Option(help="Also say what so much host memory a die adds.", rich_help_panel=_MEMORY),
    ] = None,
    pooled_memory: Annotated[
        str | None,
        typer.Option(help="Also say what so much memory of a UB pool a die adds.", rich_help_panel=_MEMORY),
    ] = None,
    show_effects: Annotated[
        bool,
        typer.Option("--effects", help="Also say what other block sizes, batches and KV types would do."),
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """
    Budget the KV cache of a served model, from the card's size down to blocks, tokens and sequences.

    Exits with 0 when a sequence of the context fits, 1 when none does, 2 when the input can't be used.
    """
    from memplan.hardware import chip as find_chip
    from memplan.kv import CacheOptions, Memory, ServingOptions
    from memplan.kv import engine as find_engine
    from memplan.deployment.cases import Case, longest_context, memory_tier, recompute_ns, usual_effects
    from memplan.models import load_config
    from memplan.models.parallel import Layout

    die = find_chip(chip)
    model = load_config(config)
    case = Case(
        model,
        die,
        find_engine(engine, die),
        ServingOptions(
            length=context or model.max_positions,
            caches=CacheOptions(
                block_size=block_size,
                kv=kv_dtype,
                index_c8=index_c8,
                speculative_tokens=speculative_tokens,
                mtp=speculative_tokens > 0,
            ),
            batched_tokens=max_num_batched_tokens,
            asynchronous=async_scheduling,
        ),
        Layout(tensor=tp, pipeline=pp, data=dp, expert=ep, context=cp),
        Memory(
            precision=weights,
            utilization=utilization,
            hbm=None if hbm is None else parse_bytes(hbm),
            activations=None if activations is None else parse_bytes(activations),
            graph=None if graph_memory is None else parse_bytes(graph_memory),
            sequences=max_num_seqs,
            hccl_buffer_mb=hccl_buffsize,
        ),
    )
    result = case.budget()
    longest = None if batch is None else longest_context(case, batch)
    asked = (("host", host_memory, "h2d"), ("pool", pooled_memory, "ub_host"))
    tiers = {
        name: memory_tier(case, parse_bytes(size), link_name) for name, size, link_name in asked if size is not None
    }
    recompute = recompute_ns(case) if tiers else None
    tried = usual_effects(case) if show_effects else ()
    if as_json:
        document = budget_document(result)
        if batch is not None:
            document["longest_context"] = {"sequences": batch, "tokens": longest}
        if tiers:
            document["tiers"] = {name: dataclasses.asdict(tier) for name, tier in tiers.items()}
            document["recompute_ns"] = recompute
        if tried:
            document["effects"] = [_effect_document(item) for item in tried]
        print_json(document)
        return YES if result.fits else NO
    print_budget(result)
    if batch is not None:
        print(
            f"longest context for {batch:,} sequences at once: {longest or 0:,} tokens (the model's own is the limit)"
        )
    if tiers:
        _print_tiers(tiers, recompute, result.context)
    if tried:
        _print_effects(tried)
    return YES if result.fits else NO


def _print_tiers(tiers: dict[str, MemoryTier], recompute: int | None, context: int) -> None:
    rows: list[tuple[object, ...]] = [
        (
            name,
            format_bytes(tier.nbytes),
            f"{tier.tokens:,}",
            tier.link,
            None if tier.restore_ns is None else format_duration(tier.restore_ns),
            tier.rests_on,
        )
        for name, tier in tiers.items()
    ]
    header = ("memory", "size", "tokens it holds", "link", "restore a sequence", "rate from")
    print_table("KV cache outside the die", header, rows, right=(1, 2, 4))
    if recompute is not None:
        print(f"recomputing {context:,} tokens instead: {format_duration(recompute)}")


def _effect_document(item: Effect) -> dict[str, Any]:
    document: dict[str, Any] = {"option": item.option, "value": item.value, "refused": item.refused or None}
    if item.result is not None:
        names = ("sequences", "fixed_bytes_per_request", "bytes_per_token", "waste_bytes", "prefix_granularity")
        document |= {name: getattr(item.result, name) for name in names}
    return document


def _print_effects(tried: Sequence[Effect]) -> None:
    rows: list[tuple[object, ...]] = []
    for item in tried:
        found = item.result
        if found is None:
            rows.append((item.option, item.value, None, None, None, None, item.refused))
            continue
        rows.append(
            (
                item.option,
                item.value,
                f"{found.sequences:,}",
                format_bytes(found.fixed_bytes_per_request),
                f"{found.bytes_per_token:,.0f}",
                f"{found.prefix_granularity:,}",
                "" if found.fits else f"{format_bytes(found.missing_bytes)} missing",
            )
        )
    header = ("option", "value", "sequences", "fixed a request", "B a token", "prefix tokens", "")
    print_table("what other options would do", header, rows, right=(2, 3, 4, 5))


def budget_document(result: KvBudget) -> dict[str, Any]:
    """The budget as JSON values."""
    pool = result.pool
    document = {
        field.name: getattr(result, field.name)
        for field in dataclasses.fields(result)
        if field.name not in ("items", "pool", "layout", "refusal", "notes")
    }
    return {
        **document,
        "layout": dataclasses.asdict(result.layout),
        "items": [{**dataclasses.asdict(item), "source": str(item.source)} for item in result.items],
        "pool": {
            "num_blocks": pool.num_blocks,
            "bytes_per_block": pool.bytes_per_block,
            "planned_per_block": pool.planned_per_block,
            "allocated_per_block": pool.allocated_per_block,
            "allocated_bytes": pool.allocated_bytes,
            "blocks_per_request": pool.blocks_per_request,
            "max_concurrency": pool.max_concurrency,
            "groups": [
                {
                    "kind": group.kind.value,
                    "layers": len(group.members),
                    "block_size": group.block_size,
                    "page_bytes": group.page_bytes,
                    "payload_bytes": group.payload_bytes,
                    "padding": group.padding,
                    "parts": sorted({spec.part for spec in group.members}),
                }
                for group in pool.groups
            ],
        },
        "refusal": None if result.refusal is None else dataclasses.asdict(result.refusal),
        "notes": [str(note) for note in result.notes],
    }


def print_budget(result: KvBudget) -> None:
    """The budget as tables."""
    title = f"{result.model} on {result.chip}, {result.layout}, {result.engine}"
    if result.layout.pipeline > 1:
        title += f", stage {result.stage}"
    rows: list[tuple[object, ...]] = [
        (item.name, "unknown" if item.nbytes is None else format_bytes(item.nbytes), str(item.source))
        for item in result.items
    ]
    print_table(title, ("memory of one die", "size", "source"), rows, right=(1,))
    pool = result.pool
    if pool.groups:
        groups: list[tuple[object, ...]] = [
            (
                group.kind.value,
                ", ".join(sorted({spec.part for spec in group.members})),
                len(group.members),
                group.block_size * group.specs[0].entry_tokens,
                f"{group.page_bytes:,}",
                f"{group.padding:.1%}",
            )
            for group in pool.groups
        ]
        print_table(
            f"{pool.num_blocks:,} blocks of {pool.planned_per_block:,} B",
            ("cache", "parts", "caches", "tokens a block", "page B", "padding"),
            groups,
            right=(2, 3, 4, 5),
        )
    waste = result.waste_bytes / max(1, pool.blocks_per_request * pool.planned_per_block)
    lines = [
        ("bytes per token", f"{result.bytes_per_token:,.1f}", f"{result.logical_bytes_per_token:,.1f} of them content"),
        (
            "fixed bytes per request",
            f"{result.fixed_bytes_per_request:,}",
            f"{result.logical_fixed_bytes:,} of them content",
        ),
        (f"waste at {result.context:,} tokens", format_bytes(result.waste_bytes), f"{waste:.1%} of a request"),
        ("engine's max concurrency", f"{pool.max_concurrency:.4f}", f"at {result.context:,} tokens per request"),
        ("sequences at once", f"{result.sequences:,}", f"of {result.context:,} tokens each"),
        ("tokens in all", f"{result.tokens:,}", "in sequences of that length"),
        ("prefix-cache granularity", f"{result.prefix_granularity:,}", "tokens"),
    ]
    print_table("what fits", ("", "", ""), lines, right=(1,))
    if not result.fits:
        print(
            f"does not fit: {format_bytes(result.missing_bytes)} missing for one sequence of {result.context:,} tokens"
        )
    for note in result.notes:
        print(f"note: {note}")
