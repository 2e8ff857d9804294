"""Bytes of weights as stored on the chip, by numeric format."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.models.architecture import ModelConfig, Quantization
from memplan.models.quantization import MODELSLIM_FILE
from memplan.models.weight_shapes import Weight, WeightGroup

PUBLISHED = "published"
"""The precision that keeps weights as the checkpoint stores them."""

_KEPT_WIDE = frozenset({WeightGroup.EMBEDDING, WeightGroup.LM_HEAD, WeightGroup.ROUTER, WeightGroup.VISION})
"""Groups that quantisation schemes leave alone."""
_DTYPE_BITS = {"float32": 32, "bfloat16": 16, "float16": 16}


@dataclass(frozen=True, slots=True)
class Format:
    """
    How one kind of matrix is stored: `bits` an element, `row_bytes` for each output row, `group_bytes` for every
    `group` elements (0: none).
    """

    bits: int
    row_bytes: int = 0
    group: int = 0
    group_bytes: int = 0

    def size(self, elements: int, rows: int) -> int:
        """Bytes of `elements` in `rows`."""
        scales = -(-elements // self.group) * self.group_bytes if self.group else 0
        return -(-elements * self.bits // 8) + rows * self.row_bytes + scales


_SINGLE = Format(32)
"""Hyper-connections are kept in float32 (vllm-ascend 0.23.0.post1 models/deepseek_v4.py)."""


@dataclass(frozen=True, slots=True)
class Precision:
    """
    Formats of linear layers, of routed experts and of everything else, with their source.

    `wide` names linear layers that are kept like everything else. Lookup tables are stored as `lookup`, or as linear
    layers are where that is `None`.
    """

    name: str
    linear: Format
    expert: Format
    other: Format
    source: Sentence
    wide: tuple[str, ...] = ()
    lookup: Format | None = None

    def of(self, weight: Weight) -> Format:
        """The format `weight` is stored in."""
        if weight.group is WeightGroup.HYPER_CONNECTIONS:
            return _SINGLE
        if weight.group is WeightGroup.LOOKUP:
            return self.lookup or self.linear
        if (
            not weight.linear
            or weight.wide
            or weight.group in _KEPT_WIDE
            or weight.name.rsplit(".", 1)[-1] in self.wide
        ):
            return self.other
        return self.expert if weight.group is WeightGroup.EXPERTS else self.linear

    def bytes(self, weight: Weight, elements: int) -> int:
        """Bytes of `elements` of `weight`, as many as one rank holds."""
        rows = weight.copies * math.prod(weight.shape[:-1]) if len(weight.shape) > 1 else 0
        return self.of(weight).size(elements, -(-rows * elements // weight.elements) if weight.elements else 0)


@functools.cache
def _named() -> dict[str, Any]:
    return {row["name"]: row for row in table("memplan.models", "precisions.json")["precisions"]}


def precision_names() -> tuple[str, ...]:
    """The precisions that can be asked for."""
    return (PUBLISHED, *_named())


def precision(name: str, model: ModelConfig) -> Precision:
    """The precision called `name`; `published` is how `model`'s own checkpoint stores its weights."""
    other = Format(_DTYPE_BITS.get(model.dtype, 16))
    if name == PUBLISHED:
        if model.quantization is None:
            return Precision(name, other, other, other, Sentence("{} in the model's config.json", (model.dtype,)))
        if model.quantization.recipe:
            recipe = precision(model.quantization.recipe, model)
            source = Sentence("{} beside config.json: {}", (MODELSLIM_FILE, model.quantization.method))
            return replace(recipe, name=name, source=source)
        return _published(model.quantization, other)
    if name not in _named():
        raise InputError(f"no precision is called {name!r:.40}", remedy=f"known: {', '.join(precision_names())}")
    row = _named()[name]
    wide = tuple(row.get("wide", ()))
    return Precision(name, Format(**row["linear"]), Format(**row["expert"]), other, Sentence(row["source"]), wide)


def _published(scheme: Quantization, other: Format) -> Precision:
    def stored(bits: int | None, group: int, scale_bits: int) -> Format:
        if bits is None:
            return other
        return Format(bits, 0, group, -(-scale_bits // 8) if group else 0)

    return Precision(
        PUBLISHED,
        stored(scheme.linear_bits, scheme.linear_group, scheme.linear_scale_bits),
        stored(scheme.expert_bits, scheme.expert_group, scheme.expert_scale_bits),
        other,
        Sentence("quantization_config of the model's config.json ({})", (scheme.method,)),
        lookup=Format(8, 0, scheme.lookup_group, 1) if scheme.lookup_group else other,
    )
