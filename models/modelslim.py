"""
Checkpoints of Ascend's ModelSlim: a description of the tensors beside `config.json`, or its words in that file.

vllm-ascend looks for the description first, whatever `quantization_config` says (vllm-ascend @182b75ea
quantization/utils.py `detect_quantization_method`); for MindIE, `config.json` has the kind as `quantize`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.core.resources import table
from memplan.models.architecture import Quantization
from memplan.models.fields import Fields
from memplan.models.projections import projections_called

MODELSLIM_FILE = "quant_model_description.json"
"""What ModelSlim writes beside config.json: how each tensor is stored, and the whole as `model_quant_type`."""

_KIND, _WORD = "model_quant_type", "quantize"
_OWN_KEYS = frozenset({"kv_quant_type", "fa_quant_type", "reduce_quant_type"})
"""What ModelSlim writes into `quantization_config` where it says nothing of the weights."""

_MOST_DESCRIBED = 64 * 2**20
_SCALE_BITS = 8


def described_scheme(folder: Path) -> Quantization | None:
    """
    The scheme that ModelSlim's description in `folder` names; `None` without one, or for a kind that is not known here.

    For MindIE the file's name says the kind as well (`quant_model_description_w8a8.json`).

    Raises `InputError` for a description that can't be read.
    """
    path = folder / MODELSLIM_FILE
    if not path.is_file():
        stem, ending = MODELSLIM_FILE.split(".")
        path = min((found for found in folder.glob(f"{stem}_*.{ending}") if found.is_file()), default=path)
        if not path.is_file():
            return None
    try:
        if path.stat().st_size > _MOST_DESCRIBED:
            raise InputError("this is too large for a description of tensors", path=path)
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise InputError("can't be read as a description of tensors", path=path) from None
    return _of_document(document, path.name) if isinstance(document, Mapping) else None


def said(fields: Fields) -> Quantization | None:
    """The scheme that ModelSlim's words in a `config.json` name; `None` where they aren't there."""
    word = fields.values.get(_WORD)
    if isinstance(word, str):
        return _scheme(word, _WORD)
    scheme = fields.values.get("quantization_config")
    return _of_document(scheme, "") if isinstance(scheme, Mapping) else None


def says_nothing(scheme: Mapping[str, Any]) -> bool:
    """Whether a `quantization_config` is ModelSlim's or empty, and so says nothing of the weights by itself."""
    return not scheme or not _OWN_KEYS.isdisjoint(scheme)


def _of_document(document: Mapping[str, Any], said_by: str) -> Quantization | None:
    wide, narrow = _matrices(document)
    return _scheme(str(document.get(_KIND)), said_by, wide, narrow)


def _scheme(kind: str, said_by: str, wide: tuple[str, ...] = (), narrow: tuple[str, ...] = ()) -> Quantization | None:
    rows = table("memplan.models", "modelslim.json")["kinds"]
    row = next((row for row in rows if kind.upper().startswith(row["begins"])), None)
    if row is None:
        return None
    recipe, bits, group = row.get("recipe", ""), row.get("bits", 8), row.get("group", 0)
    scale = _SCALE_BITS if group else 0
    return Quantization(
        kind, bits, bits, group, group, scale, scale, recipe=recipe, wide=wide, narrow=narrow, said_by=said_by,
        integers=not recipe and not group, weight_only="A16" in row["begins"],
    )  # fmt: skip


_TENSOR = re.compile(r"layers\.\d+\.(?P<name>.+)\.weight")
_LEFT_OUT = frozenset({"self_attn", "attn", "linear_attn", "mlp", "ffn", "block_sparse_moe"})
_OTHER_NAMES = {"shared_expert": "shared_experts", "wgate": "gate_proj"}
"""What checkpoints call a part of a layer, or the gate of its compressor, and what it is called here."""


def _matrices(document: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Matrices within a layer that the description leaves in 16 bits in most layers, and those that it quantises."""
    counts: dict[str, list[int]] = {}
    for tensor, kind in document.items():
        match = _TENSOR.search(tensor)
        if match is None:
            continue
        words = [word for word in match["name"].split(".") if word not in _LEFT_OUT and not word.isdigit()]
        if words[:1] == ["indexer"]:
            words = [word for word in words if word != "compressor"]
        *parts, matrix = [_OTHER_NAMES.get(word, word) for word in words] or [""]
        for name in {".".join(words), *(".".join((*parts, own)) for own in projections_called(matrix))}:
            counts.setdefault(name, [0, 0])[kind == "FLOAT"] += 1
    wide = tuple(sorted(name for name, (bits, floats) in counts.items() if floats > bits))
    return wide, tuple(sorted(counts.keys() - set(wide)))
