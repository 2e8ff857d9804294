"""The weights of a published checkpoint as a chip runs them: what is served where its cube lacks their format."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.core.sentence import Sentence, Text
from memplan.core.units import format_bytes
from memplan.hardware import Chip
from memplan.models import ModelConfig
from memplan.models.parallel import Layout, rank_lookup_bytes
from memplan.models.precision import PUBLISHED, precision

_CUBE_TYPES = {"fp8": "float8_e4m3", "mxfp4": "float4_e2m1"}
"""What a chip must multiply to run weights of a method."""


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
    needed = _CUBE_TYPES.get(scheme.method)
    if needed is None or chip.cube_flops(needed) is not None:
        return ServedWeights(asked, None)
    if scheme.method == "mxfp4":
        note = "the published weights are mxfp4, which the cube of {} does not take: served in 16 bits (bf16)"
        return ServedWeights("bf16", Sentence(note, (chip.name,)))
    note = "the published weights are fp8, which the cube of {} does not take: serve them as w8a8 or w4a8"
    return ServedWeights(asked, Sentence(note, (chip.name,)))


def weight_notes(model: ModelConfig, layout: Layout, served: ServedWeights, span: range) -> list[Text]:
    """What there is to say of the weights of the layers in `span` on one rank."""
    notes: list[Text] = [*model.notes]
    if served.note is not None:
        notes.append(served.note)
    tables = rank_lookup_bytes(model, layout, precision(served.precision, model), span)
    if tables:
        text = "lookup tables of {} a rank are taken to stand in host memory, not on the die"
        notes.append(Sentence(text, (format_bytes(tables),)))
    return notes
