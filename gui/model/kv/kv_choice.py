"""What the user chose of a served model's KV cache, what can be chosen, and the command line that says the same."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from memplan.hardware import alias, chip, chips
from memplan.kv import CacheOptions, Memory, ServingOptions, engine, engines
from memplan.kv.budget import DEFAULT_SEQUENCES
from memplan.kv.collective_buffers import HCCL_BUFFER_MB
from memplan.kv.layers import block_sizes, kv_types, keeps_index_keys
from memplan.deployment.cases import Case
from memplan.models import ModelConfig, load_config
from memplan.models.feed_forward import MoeFfn
from memplan.models.parallel import Layout
from memplan.core.units import format_bytes, parse_bytes

SAMPLE = Path(str(resources.files("memplan.samples"))) / "example_config.json"
"""The bundled model, chosen until the user chooses another."""

_SHORTEST_CONTEXT, _LONGEST_CONTEXT = 1024, 1 << 20
_USUAL_BLOCKS = (16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class KvChoice:
    """
    What the user set; the fields are the options of `memplan kv`, `None` and `""` the engine's own defaults.

    `batch` sequences of `context` tokens are wanted at once on one data-parallel rank. Sizes (`hbm`, `activations`,
    `graphs`, `host_memory`, `pooled_memory`) are texts such as `64GiB`.
    """

    config: Path
    chip: str = "910B3"
    engine: str = "vllm-ascend"
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    cp: int = 1
    context: int = 32768
    batch: int | None = None
    block_size: int | None = None
    batched_tokens: int | None = None
    step_sequences: int = DEFAULT_SEQUENCES
    asynchronous: bool = False
    kv_dtype: str = ""
    draft_tokens: int = 0
    index_c8: bool = False
    weights: str = "published"
    utilization: float | None = None
    hbm: str = ""
    activations: str = ""
    graphs: str = ""
    hccl_buffer_mb: int = HCCL_BUFFER_MB
    host_memory: str = ""
    pooled_memory: str = ""
    effects: bool = False

    @property
    def command(self) -> str:
        """The command line that prints the same budget."""
        words = ["memplan", "kv", str(self.config), "--chip", self.chip, "--engine", self.engine]
        for name, value, default in (
            ("--tp", self.tp, 1),
            ("--pp", self.pp, 1),
            ("--dp", self.dp, 1),
            ("--ep", self.ep, 1),
            ("--cp", self.cp, 1),
            ("--context", self.context, None),
            ("--batch", self.batch, None),
            ("--block-size", self.block_size, None),
            ("--max-num-batched-tokens", self.batched_tokens, None),
            ("--max-num-seqs", self.step_sequences, DEFAULT_SEQUENCES),
            ("--kv-dtype", self.kv_dtype, ""),
            ("--num-speculative-tokens", self.draft_tokens, 0),
            ("--weights", self.weights, "published"),
            ("--utilization", self.utilization, None),
            ("--hbm", self.hbm, ""),
            ("--activations", self.activations, ""),
            ("--graph-memory", self.graphs, ""),
            ("--hccl-buffsize", self.hccl_buffer_mb, HCCL_BUFFER_MB),
            ("--host-memory", self.host_memory, ""),
            ("--pooled-memory", self.pooled_memory, ""),
        ):
            if value != default:
                words += [name, str(value)]
        for name, given in (
            ("--async-scheduling", self.asynchronous),
            ("--index-c8", self.index_c8),
            ("--effects", self.effects),
        ):
            words += [name] if given else []
        return shlex.join(words)

    def case(self) -> Case:
        """What is to be served; raises `InputError` for a file, a name, a size or an option that can't be used."""
        die = chip(self.chip)
        model = load_config(self.config)
        return Case(
            model,
            die,
            engine(self.engine, die),
            ServingOptions(
                length=self.context,
                caches=CacheOptions(
                    block_size=self.block_size,
                    kv=self.kv_dtype or None,
                    index_c8=self.index_c8,
                    speculative_tokens=self.draft_tokens,
                    mtp=self.draft_tokens > 0,
                ),
                batched_tokens=self.batched_tokens,
                asynchronous=self.asynchronous,
            ),
            Layout(tensor=self.tp, pipeline=self.pp, data=self.dp, expert=self.ep, context=self.cp),
            Memory(
                precision=self.weights,
                utilization=self.utilization,
                hbm=_size(self.hbm),
                activations=_size(self.activations),
                graph=_size(self.graphs),
                sequences=self.step_sequences,
                hccl_buffer_mb=self.hccl_buffer_mb,
            ),
        )


def _size(text: str) -> int | None:
    return parse_bytes(text) if text.strip() else None


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


def offer(choice: KvChoice) -> Offer:
    """What can be chosen for the model, chip and engine of `choice`; raises `InputError` where they can't be used."""
    found = engine(choice.engine, chip(choice.chip))
    model = load_config(choice.config)
    return Offer(
        engine=found.name,
        positions=model.max_positions,
        kv_types=kv_types(model, found),
        block_sizes=block_sizes(model, found) or _USUAL_BLOCKS,
        default_kv=found.default_kv,
        default_block=found.default_block_size,
        batched_tokens=found.batched_tokens,
        utilization=found.utilization,
        has_drafts=bool(model.mtp_layers),
        has_indexer=keeps_index_keys(model),
        has_experts=has_experts(model),
    )


def has_experts(model: ModelConfig) -> bool:
    """Whether ranks can share experts."""
    return model.experts is not None


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
