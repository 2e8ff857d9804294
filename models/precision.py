"""Bytes of weights as stored on the chip, by numeric format."""

from __future__ import annotations

import fnmatch
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.core.sentence import Sentence
from memplan.models.architecture import ModelConfig, Quantization
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

    `wide` names linear layers that are kept like everything else, by patterns of their names in a layer; `wide_drafts`
    keeps those of the layers of multi-token prediction, from `drafts_from` on, so. `own_ends` says that these come with
    an embedding and a head of their own. Lookup tables are stored as `lookup`, or as linear layers are where that is
    `None`.
    """

    name: str
    linear: Format
    expert: Format
    other: Format
    source: Sentence
    wide: tuple[str, ...] = ()
    lookup: Format | None = None
    wide_drafts: bool = False
    own_ends: bool = False
    drafts_from: int = 0

    def of(self, weight: Weight) -> Format:
        """The format `weight` is stored in."""
        if weight.group is WeightGroup.HYPER_CONNECTIONS:
            return _SINGLE
        if weight.group is WeightGroup.LOOKUP:
            return self.lookup or self.linear
        if not weight.linear or weight.wide or weight.group in _KEPT_WIDE or self._kept_wide(weight):
            return self.other
        return self.expert if weight.group is WeightGroup.EXPERTS else self.linear

    def _kept_wide(self, weight: Weight) -> bool:
        if self.wide_drafts and weight.layer is not None and weight.layer >= self.drafts_from:
            return True
        local = weight.name.split(".", 2)[-1] if weight.layer is not None else weight.name
        return any(fnmatch.fnmatchcase(local, pattern) for pattern in self.wide)

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
    if name == PUBLISHED and model.stored is not None and model.stored.parts:
        found = precision(name, replace(model, stored=None))
        return replace(found, source=Sentence("headers of {} safetensors [file|files]", (str(model.stored.files),)))
    if name == PUBLISHED:
        if model.quantization is None:
            return Precision(name, other, other, other, Sentence("{} in the model's config.json", (model.dtype,)))
        if model.quantization.recipe:
            planned = precision(model.quantization.recipe, model)
            wide = {*planned.wide, *model.quantization.wide} - {*model.quantization.narrow}
            return replace(planned, name=name, source=_source(model.quantization), wide=tuple(sorted(wide)))
        return _published(model.quantization, other)
    if name not in _named():
        raise InputError(
            "no precision is called {!r:.40}", name, remedy=Sentence("known: {}", (", ".join(precision_names()),))
        )
    row, recipe = _named()[name], _recipe(name, model)
    return Precision(
        name,
        Format(**row["linear"]),
        Format(**row["expert"]),
        other,
        Sentence(row["source"]) if recipe is None else Sentence("{}; {}", (row["source"], recipe["source"])),
        tuple((recipe or row).get("wide", ())),
        wide_drafts=recipe is not None and recipe.get("wide_drafts", False),
        own_ends=recipe is not None and recipe.get("own_ends", False),
        drafts_from=len(model.layers),
    )


def _recipe(name: str, model: ModelConfig) -> Mapping[str, Any] | None:
    """What published checkpoints of the family keep in 16 bits in the precision called `name`."""
    rows = table("memplan.models", "weight_recipes.json")["recipes"]
    fitting = (row for row in rows if name in row["precisions"] and model.family in row["families"])
    return next(fitting, None)


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
        _source(scheme),
        scheme.wide,
        lookup=Format(8, 0, scheme.lookup_group, 1) if scheme.lookup_group else other,
    )


def _source(scheme: Quantization) -> Sentence:
    if scheme.said_by.endswith(".json"):
        return Sentence("{} beside config.json: {}", (scheme.said_by, scheme.method))
    return Sentence("{} of the model's config.json ({})", (scheme.said_by or "quantization_config", scheme.method))
