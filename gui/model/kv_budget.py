"""The what-if of a served model's KV cache: what was chosen, what follows, and the command that says the same."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from memplan.hardware import chip
from memplan.kv import CacheOptions, KvBudget, Memory, ServingOptions, budget, engine
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.units import format_bytes

KV_TYPES = ("", "bf16", "fp8", "int8")
WEIGHT_TYPES = ("published", "bf16", "w8a8", "w4a8", "mxfp8", "mxfp8-mxfp4")


@dataclass(frozen=True, slots=True)
class KvChoice:
    """What the user set; the fields are the options of `memplan kv`, `None` and `""` the engine's own defaults."""

    config: Path
    chip: str = "910B3"
    engine: str = "vllm-ascend"
    tp: int = 1
    ep: int = 1
    dp: int = 1
    context: int = 32768
    batched_tokens: int | None = None
    block_size: int | None = None
    kv_dtype: str = ""
    weights: str = "published"

    @property
    def command(self) -> str:
        """The command line that prints the same budget."""
        words = ["memplan", "kv", str(self.config), "--chip", self.chip, "--engine", self.engine]
        for name, value, default in (
            ("--tp", self.tp, 1),
            ("--ep", self.ep, 1),
            ("--dp", self.dp, 1),
            ("--context", self.context, None),
            ("--max-num-batched-tokens", self.batched_tokens, None),
            ("--block-size", self.block_size, None),
            ("--kv-dtype", self.kv_dtype, ""),
            ("--weights", self.weights, "published"),
        ):
            if value != default:
                words += [name, str(value)]
        return shlex.join(words)


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of the HBM stack, bottom to top; `nbytes` 0 where it isn't known."""

    name: str
    nbytes: int
    text: str


def evaluate(choice: KvChoice) -> KvBudget:
    """The budget of a choice; raises `InputError` in the command line's words."""
    die = chip(choice.chip)
    return budget(
        load_config(choice.config),
        die,
        engine(choice.engine, die),
        ServingOptions(
            length=choice.context,
            caches=CacheOptions(block_size=choice.block_size, kv=choice.kv_dtype or None),
            batched_tokens=choice.batched_tokens,
        ),
        Layout(tensor=choice.tp, expert=choice.ep, data=choice.dp),
        Memory(precision=choice.weights),
    )


def stack(result: KvBudget) -> list[Segment]:
    """HBM from the card's size down as parts that add up to it: weights together, then the rest, then the cache."""
    weights = sum(item.nbytes or 0 for item in result.items if item.name.startswith("weights"))
    segments = [Segment("weights", weights, format_bytes(weights))]
    for item in result.items:
        if item.name == "card" or item.name.startswith("weights"):
            continue
        text = "unknown" if item.nbytes is None else format_bytes(item.nbytes)
        segments.append(Segment(item.name, item.nbytes or 0, text))
    return segments


def answers(result: KvBudget) -> list[tuple[str, str]]:
    """What the budget says, as label and value."""
    pool = result.pool
    lines = [
        ("fits", "yes" if result.fits else f"no: {format_bytes(result.missing_bytes)} missing"),
        ("tokens in all", f"{result.tokens:,}"),
        (f"sequences of {result.context:,} tokens", f"{result.sequences:,}"),
        ("bytes per token", f"{result.bytes_per_token:,.0f}"),
        ("fixed bytes per request", f"{result.fixed_bytes_per_request:,}"),
        ("waste per request", format_bytes(result.waste_bytes)),
        ("blocks", f"{pool.num_blocks:,} of {pool.allocated_per_block:,} B"),
    ]
    for group in pool.groups:
        tokens = group.block_size * group.specs[0].entry_tokens
        lines.append(
            (f"{group.kind.value}, {len(group.members)} caches", f"{tokens:,} tokens in {group.page_bytes:,} B")
        )
    return lines
