"""What weights take once an engine has loaded them: experts in their kernel's layout, blocks of the allocator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from memplan.core.units import round_up
from memplan.models import ModelConfig
from memplan.models.feed_forward import MoeFfn
from memplan.models.parallel import Layout, rank_weights
from memplan.models.precision import PUBLISHED, Precision
from memplan.models.weight_shapes import WeightGroup

_FUSED = (
    ("q_proj", "k_proj", "v_proj"),
    ("gate_proj", "up_proj"),
    ("q_a_proj", "kv_a_proj_with_mqa"),
)
"""Matrices that engines keep as one tensor (vllm 0.23.0 model_executor/models, `packed_modules_mapping`)."""

_MX_GROUP = 32
"""Elements that share a scale of one byte in MXFP4."""


@dataclass(frozen=True, slots=True)
class AllocatorRules:
    """
    Blocks of a caching allocator without expandable segments.

    A tensor of `least` bytes and more has memory of its own in steps of `step` bytes, of which the rest is given back
    unless it is at most `kept` (PyTorch c10/cuda/CUDACachingAllocator.cpp, `get_allocation_size`, `should_split`).
    """

    least: int
    step: int
    kept: int

    def rest(self, nbytes: int) -> int:
        """Bytes that a tensor of `nbytes` takes beyond its own."""
        over = round_up(nbytes, self.step) - nbytes
        return over if nbytes >= self.least and over <= self.kept else 0


@dataclass(frozen=True, slots=True)
class MxExpertRules:
    """
    How an engine's kernel keeps experts of MXFP4 checkpoints.

    Columns of an expert on a rank are padded to multiples of `width`, the hidden size to `hidden`, rows of the scales
    to `scale_rows`. `scales_twice` keeps the scales as they were loaded as well. Biases have `bias_bytes` an element.
    """

    width: int
    hidden: int
    scale_rows: int
    scales_twice: bool
    bias_bytes: int

    def tensors(self, ffn: MoeFfn, layout: Layout, hidden: int) -> tuple[int, ...]:
        """Bytes of each tensor of the experts of a layer on one rank."""
        experts, columns = -(-ffn.experts // layout.expert), -(-ffn.intermediate // layout.expert_shards)
        columns, wide = round_up(columns, self.width), round_up(hidden, self.hidden)
        found: list[int] = []
        for rows, inner in (((2 if ffn.gated else 1) * columns, wide), (wide, columns)):
            scales = inner // _MX_GROUP
            found += [experts * rows * inner // 2, experts * rows * self.bias_bytes * ffn.expert_bias]
            found.append(experts * round_up(rows, self.scale_rows) * scales)
            if self.scales_twice:
                found.append(experts * rows * scales)
        return tuple(found)


def loaded_weights(
    model: ModelConfig,
    layout: Layout,
    scheme: Precision,
    span: range,
    allocator: AllocatorRules | None,
    experts: MxExpertRules | None,
    *,
    mtp: bool,
) -> Mapping[str, int]:
    """Bytes on one rank that weights take beyond those of their own formats, by what for; what is none is left out."""
    mx = model.quantization is not None and model.quantization.method == "mxfp4" and scheme.name == PUBLISHED
    rules = experts if mx else None
    found: dict[str, int] = {}
    if rules is not None:
        planned = sum(
            scheme.bytes(item, elements)
            for item, elements in rank_weights(model, layout, span, mtp=mtp)
            if item.group is WeightGroup.EXPERTS
        )
        found["experts in the kernel's layout"] = sum(_mx_tensors(model, layout, rules, span)) - planned
    if allocator is not None:
        sizes = [*_tensors(model, layout, scheme, span, mtp=mtp, experts=rules is None)]
        sizes += _mx_tensors(model, layout, rules, span) if rules is not None else ()
        found["rest of the allocator's blocks"] = sum(map(allocator.rest, sizes))
    return {name: size for name, size in found.items() if size}


def _mx_tensors(model: ModelConfig, layout: Layout, rules: MxExpertRules, span: range) -> list[int]:
    """Bytes of the tensors of all experts of the layers in `span` on one rank."""
    found: list[int] = []
    for layer in model.layers:
        if layer.index in span and isinstance(layer.ffn, MoeFfn):
            found += rules.tensors(layer.ffn, layout, model.hidden_size)
    return found


def _tensors(
    model: ModelConfig, layout: Layout, scheme: Precision, span: range, *, mtp: bool, experts: bool
) -> Iterator[int]:
    """Bytes of each matrix as the engine keeps them on one rank, scales apart."""
    fused: dict[tuple[int | None, str, str], int] = {}
    for item, elements in rank_weights(model, layout, span, mtp=mtp):
        if len(item.shape) < 2 or item.group is WeightGroup.VISION:
            continue
        if item.group is WeightGroup.EXPERTS and not experts:
            continue
        prefix, _, name = item.name.rpartition(".")
        whole = next((names[0] for names in _FUSED if name in names), name)
        key = (item.layer, prefix, whole)
        fused[key] = fused.get(key, 0) + elements * scheme.of(item).bits // 8
    yield from fused.values()
