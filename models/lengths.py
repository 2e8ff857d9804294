"""The longest sequence of a model as its files tell it: positions under several names, and how rotary ones stretch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memplan.models.fields import Fields

POSITION_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""Fields that may tell the longest sequence (vllm 0.33.0 transformers_utils/model_arch_config_convertor.py)."""

_MOST = 2**40
"""No number of positions or factor of a published model comes near this."""
_MOST_BYTES = 64 * 2**20
"""The largest tokenizer_config.json that is read: it names every added token."""


@dataclass(frozen=True, slots=True)
class RotaryScaling:
    """How positions of some layers are stretched: by `kind`, `factor` times, from the `original` ones."""

    kind: str
    factor: float | None
    original: int | None


@dataclass(frozen=True, slots=True)
class PublishedLength:
    """
    Positions by the `names` of the file, the `scalings` of rotary ones, the `original` positions before any scaling and
    the longest input of the `tokenizer`; `None` where nothing is said.
    """

    names: tuple[tuple[str, int], ...]
    scalings: tuple[RotaryScaling, ...]
    original: int | None
    tokenizer: int | None = None


def _whole(value: object) -> int | None:
    known = isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST
    return value if known and isinstance(value, int) else None


def _factor(value: object) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _MOST
    return float(value) if known and isinstance(value, (int, float)) else None


def _objects(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The objects that describe rotary positions, one for each kind of layer where they differ."""
    for field in ("rope_parameters", "rope_scaling"):
        found = values.get(field)
        if isinstance(found, Mapping) and found:
            inner = [item for item in found.values() if isinstance(item, Mapping)]
            yield from inner or [found]
            return


def read_length(fields: Fields) -> PublishedLength:
    """What the decoder's object says of the longest sequence."""
    values = fields.values
    scalings = tuple(
        RotaryScaling(
            "default" if (kind := item.get("rope_type") or item.get("type")) in (None, "mrope") else str(kind),
            _factor(item.get("factor")),
            _whole(item.get("original_max_position_embeddings")),
        )
        for item in _objects(values)
    )
    names = tuple((name, found) for name in POSITION_NAMES if (found := _whole(values.get(name))) is not None)
    return PublishedLength(names, scalings, _whole(values.get("original_max_position_embeddings")))


def read_tokenizer_length(folder: Path) -> int | None:
    """The longest input by the tokenizer_config.json in `folder`; `None` where there is none or it can't be read."""
    path = folder / "tokenizer_config.json"
    try:
        if path.stat().st_size > _MOST_BYTES:
            return None
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return _whole(document.get("model_max_length")) if isinstance(document, Mapping) else None
