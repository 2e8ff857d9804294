"""The weights of a published checkpoint as a chip runs them: what is served where its cube lacks their format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes
from memplan.hardware import Chip
from memplan.kv.engine import Engine
from memplan.kv.loaded_weights import loaded_weights
from memplan.models import ModelConfig
from memplan.models.parallel import ONE_RANK, Layout, rank_lookup_bytes, rank_weight_bytes
from memplan.models.precision import PUBLISHED, Precision, precision
from memplan.models.steps.options import Arithmetic, arithmetic
from memplan.models.stored_weights import StoredWeights
from memplan.models.weight_shapes import WeightGroup

_FLOATS = MappingProxyType({"float8_e4m3": "fp8", "float4_e2m1": "fp4"})
"""What weights of few bits that are no integers are called."""

_INDEX_SHARE = 0.02
"""By how much of its size a planned checkpoint may miss what the index says, before that is worth a word."""


@dataclass(frozen=True, slots=True)
class ServedWeights:
    """The precision that weights are served in, and a note where it is not the one asked for or can't be run."""

    precision: str
    note: Sentence | None


def served_weights(model: ModelConfig, chip: Chip, asked: str) -> ServedWeights:
    """
    What `chip` serves of `model` in the precision `asked`.

    MXFP4 checkpoints are served in 16 bits where there is no unit for them, as vllm-ascend's tutorials of gpt-oss do;
    other formats are planned as they are stored, with a note of what to serve instead.
    """
    scheme = model.quantization
    if asked != PUBLISHED or scheme is None:
        return ServedWeights(asked, None)
    if scheme.method == "modelopt":
        note = "the published weights are quantised for NVIDIA's chips: serve those of the base model, or w8a8 or w4a8"
        return ServedWeights(asked, Sentence(note))
    if scheme.method == "mxfp4" and chip.cube_flops("float4_e2m1") is None:
        note = "the published weights are mxfp4, which the cube of {} does not take: served in 16 bits (bf16)"
        return ServedWeights("bf16", Sentence(note, (chip.name,)))
    lacking = next((one.weight for one in _lacking(model, chip, PUBLISHED) if one.weight in _FLOATS), None)
    if lacking is None:
        return ServedWeights(asked, None)
    note = "the published weights are {}, which the cube of {} does not take: serve them as w8a8 or w4a8"
    return ServedWeights(asked, Sentence(note, (_FLOATS[lacking], chip.name)))


def runs_weights(model: ModelConfig, chip: Chip, asked: str) -> bool:
    """Whether the cube of `chip` multiplies weights of `model` in the precision `asked` as their scheme does."""
    return not any(_lacking(model, chip, asked))


def _lacking(model: ModelConfig, chip: Chip, asked: str) -> Iterator[Arithmetic]:
    """Types of linear layers or of experts in the precision `asked` that `chip` has no cube to multiply."""
    stored = precision(asked, model)
    forms = [(stored.linear, WeightGroup.DENSE_FFN)]
    forms += [(stored.expert, WeightGroup.EXPERTS)] if model.experts is not None else []
    types = [arithmetic(form, group, model, asked) for form, group in forms]
    return (one for one in types if one.quantised and chip.cube_flops(one.activation) is None)


def held_weights(
    model: ModelConfig,
    engine: Engine,
    layout: Layout,
    scheme: Precision,
    span: range,
    *,
    tokens: int,
    mtp: bool,
    redundant: int,
) -> Mapping[str, int]:
    """
    Bytes of weights by group on one rank, with what `engine` holds beside them for steps of `tokens` tokens, and with
    `redundant` copies of experts in each layer, dealt to the ranks with the others (vllm 0.33.0 config/parallel.py
    `eplb_config.num_redundant_experts`).

    Raises `InputError` where there are no experts to copy, or no ranks that share them.
    """
    held = dict(rank_weight_bytes(model, layout, scheme, span, mtp=mtp))
    if engine.held is not None and model.rotary:
        held["rotary positions"] = sum(map(engine.held.rotary_bytes, model.rotary))
    if engine.held is not None:
        kept = engine.held.step_bytes(model, tokens, drafts=mtp, last=span.stop >= len(model.layers))
        held |= {"buffers of a step": kept} if kept else {}
    if engine.held is not None:
        held |= loaded_weights(model, layout, scheme, span, engine.held.allocator, engine.held.experts, mtp=mtp)
    if engine.held is not None and engine.held.twice:
        held["second layouts"] = sum(held.get(group, 0) for group in engine.held.twice)
    if not redundant:
        return held
    if model.experts is None or layout.expert == 1:
        raise InputError("redundant experts need ranks that share experts", remedy="give --ep, or leave them out")
    experts = model.experts.experts
    local, more = -(-experts // layout.expert), -(-(experts + redundant) // layout.expert)
    held["redundant experts"] = held.get("experts", 0) * (more - local) // local
    return held


def weight_notes(model: ModelConfig, layout: Layout, served: ServedWeights, span: range) -> list[Text]:
    """What there is to say of the weights of the layers in `span` on one rank."""
    notes: list[Text] = [*model.notes]
    if served.note is not None:
        notes.append(served.note)
    if served.precision == PUBLISHED and model.stored is not None:
        notes += _stored_notes(model, model.stored)
    tables = rank_lookup_bytes(model, layout, precision(served.precision, model), span)
    if tables:
        text = "lookup tables of {} a rank are taken to stand in host memory, not on the die"
        notes.append(Sentence(text, (format_bytes(tables),)))
    return notes


def _stored_notes(model: ModelConfig, stored: StoredWeights) -> list[Text]:
    """What the checkpoint's files say that the plan does not follow from."""
    notes: list[Text] = []
    if stored.unknown:
        text = "{} tensors of the checkpoint have names that are not known here: taken to be on every rank"
        notes.append(Sentence(text, (f"{stored.unknown:,}",)))
    if stored.missing:
        text = "{} files of the checkpoint are missing: weights are planned from its config"
        notes.append(Sentence(text, (f"{stored.missing:,}",)))
    if not stored.parts and stored.total_bytes is not None:
        scheme, span = precision(PUBLISHED, model), range(len(model.layers))
        planned = sum(rank_weight_bytes(model, ONE_RANK, scheme, span, mtp=True).values())
        if abs(planned - stored.total_bytes) > _INDEX_SHARE * stored.total_bytes:
            text = "the checkpoint's index says {} in all, planned are {}: what of it is quantised is not known here"
            notes.append(Sentence(text, (format_bytes(stored.total_bytes), format_bytes(planned))))
    return notes
