"""What can be chosen of a served model's KV cache."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from memplan.core.units import format_bytes
from memplan.hardware import alias, chip, chips
from memplan.kv import ServingOptions, engine, engines, resolve
from memplan.kv.kept_entries import block_sizes, keeps_index_keys
from memplan.kv.settings import cache_types
from memplan.models import load_config
from memplan.requests.kv_request import KvRequest

SAMPLE = Path(str(resources.files("memplan.samples"))) / "example_config.json"
"""The bundled model, chosen until the user chooses another."""

_SHORTEST_CONTEXT, _LONGEST_CONTEXT = 1024, 1 << 20
_USUAL_BLOCKS = (16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Offer:
    """
    What of the options a model and an engine take.

    `kv_types` and `block_sizes` are what the engine keeps this model in, `default_kv` and `default_block` what it
    takes unasked; the flags say which options make a difference to the model at all. `engine` is the full name.
    """

    engine: str
    positions: int
    kv_types: tuple[str, ...]
    block_sizes: tuple[int, ...]
    default_kv: str
    default_block: int
    batched_tokens: int
    utilization: float
    has_drafts: bool
    has_indexer: bool
    has_experts: bool


def offer(choice: KvRequest) -> Offer:
    """What can be chosen for the model, chip and engine of `choice`; raises `InputError` where they can't be used."""
    found = engine(choice.engine, chip(choice.chip))
    model = load_config(choice.config)
    caches = resolve(model, found, ServingOptions(model.max_positions)).options.caches
    return Offer(
        engine=found.name,
        positions=model.max_positions,
        kv_types=cache_types(model, found),
        block_sizes=block_sizes(model, found) or _USUAL_BLOCKS,
        default_kv=caches.kv or found.default_kv,
        default_block=caches.block_size or found.default_block_size,
        batched_tokens=found.batched_tokens,
        utilization=found.utilization,
        has_drafts=bool(model.mtp_layers),
        has_indexer=keeps_index_keys(model),
        has_experts=model.experts is not None,
    )


def chip_names() -> list[tuple[str, str]]:
    """Chips of known memory, as the name to give and what to show: with the product it is sold as, and its memory."""
    sold = {}
    for product in ("910C",):
        found = alias(product)
        if found is not None and found.chip is not None:
            sold[found.chip] = found.name
    names = []
    for item in chips():
        if item.hbm_bytes:
            name = item.name.removeprefix("Ascend")
            shown = f"{name} ({sold[item.name]})" if item.name in sold else name
            names.append((name, f"{shown} · {format_bytes(item.hbm_bytes)}"))
    return names


def engine_versions() -> dict[str, list[tuple[str, str]]]:
    """
    Every engine with its versions, as the name to give and what to show.

    Where an engine has several the first is its own name, shown as "": the chip then settles the version. An engine
    of no versions has the one row that says so.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for item in engines():
        shown = "-" if item.name == item.engine else item.name.removeprefix(f"{item.engine}-")
        found.setdefault(item.engine, []).append((item.name, shown))
    return {name: [(name, ""), *rows] if len(rows) > 1 else rows for name, rows in found.items()}


def context_steps(positions: int) -> list[int]:
    """
    Contexts a slider stops at: eight to every doubling from 1,024 tokens up, and `positions`, the model's own.

    The slider ends at a million tokens, or at `positions` where that is more.
    """
    steps, octave = [], _SHORTEST_CONTEXT
    last = max(positions, _LONGEST_CONTEXT)
    while octave <= last:
        steps += [octave + octave // 8 * eighth for eighth in range(8)]
        octave *= 2
    return sorted({step for step in steps if step <= last} | {max(positions, _SHORTEST_CONTEXT)})


def batch_steps() -> list[int]:
    """Numbers of sequences a slider stops at: every one up to 8, then four to every doubling up to 4,096."""
    steps, octave = list(range(1, 8)), 8
    while octave < 4096:
        steps += [octave + octave // 4 * quarter for quarter in range(4)]
        octave *= 2
    return [*steps, 4096]


def doubled(value: int, times: int, *, low: int, high: int) -> int:
    """`value` after `times` doublings (halvings where negative), on powers of two, within the limits."""
    for _ in range(abs(times)):
        power = 1 << max(value, 1).bit_length() - 1
        value = power * 2 if times > 0 else (power if power < value else power // 2)
    return min(max(value, low), high)
