"""The longest sequence that an engine serves a model with when none is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.models import ModelConfig
from memplan.models.lengths import PublishedLength


@dataclass(frozen=True, slots=True)
class LengthRules:
    """
    How an engine takes the longest sequence from a model's files.

    It is that of the `first` field there is, else the smallest of all, of the tokenizer's too with `tokenizer`;
    rotary positions stretch it, except of `unscaled` kinds and `scaled_models` (by a part of their type), and with
    `unscaled_with_original` of any that say what they start from. `yarn_from_original` counts that kind from there.
    `longrope_original` starts with what that kind starts from. More can be asked for with `variable` set to 1.
    """

    first: tuple[str, ...]
    unscaled: tuple[str, ...]
    scaled_models: tuple[str, ...]
    unscaled_with_original: bool
    yarn_from_original: bool
    longrope_original: bool
    tokenizer: bool
    variable: str


@dataclass(frozen=True, slots=True)
class SequenceLengths:
    """What an engine starts with, and the `most` it can be asked for unless a variable allows more."""

    default: int
    most: int


def sequence_lengths(model: ModelConfig, rules: LengthRules | None) -> SequenceLengths:
    """
    The lengths that an engine makes by its `rules` of what the files of `model` say.

    vllm 0.33.0 config/model.py _get_and_verify_max_len, sglang 0.5.23 utils/hf_transformers/common.py
    get_context_length.
    """
    published = model.published_length
    if rules is None or published is None:
        return SequenceLengths(model.max_positions, model.max_positions)
    most = _positions(published, rules.first, model.max_positions)
    if rules.tokenizer and published.tokenizer is not None:
        most = min(most, published.tokenizer)
    if not any(name in model.model_type for name in rules.scaled_models):
        factor = 1.0
        for scaling in published.scalings:
            if scaling.kind in rules.unscaled or (rules.unscaled_with_original and scaling.original is not None):
                continue
            factor = scaling.factor or factor
            if scaling.kind == "yarn" and rules.yarn_from_original:
                most = scaling.original or most
        most = int(most * factor)
    longrope = any(scaling.kind == "longrope" for scaling in published.scalings)
    default = published.original if longrope and rules.longrope_original else None
    return SequenceLengths(default or most, most)


def _positions(published: PublishedLength, first: tuple[str, ...], own: int) -> int:
    """The positions of the first name that counts, else the fewest of all; `own` where the file has none of them."""
    names = dict(published.names)
    named = next((names[name] for name in first if name in names), None)
    return named or min(names.values(), default=own)
