"""How a published checkpoint stores its weights, from `quantization_config`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence
from memplan.models.architecture import Quantization
from memplan.models.fields import Fields

_FLOAT32_BITS, _BFLOAT16_BITS, _E8M0_BITS = 32, 16, 8
_MX_GROUP = 32
"""Elements that share one e8m0 scale in the OCP microscaling formats."""


MODELSLIM_FILE = "quant_model_description.json"
"""What ModelSlim writes beside config.json: how each tensor is stored, and the whole as `model_quant_type`."""

_MODELSLIM_RECIPES = {"W8A8": "w8a8", "W4A8": "w4a8"}
_MOST_DESCRIBED = 64 * 2**20


def read_modelslim(folder: Path) -> Quantization | None:
    """
    The scheme that ModelSlim's description in `folder` names; `None` without one, or for a kind without a recipe here.

    Raises `InputError` for a description that can't be read.
    """
    path = folder / MODELSLIM_FILE
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _MOST_DESCRIBED:
            raise InputError("this is too large for a description of tensors", path=path)
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise InputError("can't be read as a description of tensors", path=path) from None
    kind = document.get("model_quant_type") if isinstance(document, Mapping) else None
    recipe = _MODELSLIM_RECIPES.get(str(kind)[:4])
    if recipe is None:
        return None
    wide, narrow = _described(document)
    return Quantization(str(kind), 8, 8, 0, 0, 0, 0, recipe=recipe, wide=wide, narrow=narrow)


_TENSOR = re.compile(r"layers\.\d+\.(?P<name>.+)\.weight")
_LEFT_OUT = frozenset({"self_attn", "attn", "linear_attn", "mlp", "ffn", "block_sparse_moe"})
_OTHER_NAMES = {
    "wq_a": "q_a_proj", "wq_b": "q_b_proj", "wkv": "kv_proj", "wo_a": "o_a_proj", "wo_b": "o_b_proj",
    "wgate": "gate_proj", "w1": "gate_proj", "w2": "down_proj", "w3": "up_proj", "shared_expert": "shared_experts",
}  # fmt: skip
"""What DeepSeek-V4's checkpoints and others call a matrix, and what it is called here."""


def _described(document: Mapping[str, object]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Matrices within a layer that the description leaves in 16 bits in most layers, and those that it quantises."""
    counts: dict[str, list[int]] = {}
    for tensor, kind in document.items():
        match = _TENSOR.search(tensor)
        if match is None:
            continue
        words = [word for word in match["name"].split(".") if word not in _LEFT_OUT and not word.isdigit()]
        if words[:1] == ["indexer"]:
            words = [word for word in words if word != "compressor"]
        for name in {".".join(words), ".".join(_OTHER_NAMES.get(word, word) for word in words)}:
            counts.setdefault(name, [0, 0])[kind == "FLOAT"] += 1
    wide = tuple(sorted(name for name, (bits, floats) in counts.items() if floats > bits))
    return wide, tuple(sorted(counts.keys() - set(wide)))


def read_quantization(fields: Fields) -> Quantization | None:
    """
    The scheme of `quantization_config` in `fields` or, for wrappers, in the decoder's own object.

    Raises `InputError` naming the method for one that is not known here.
    """
    if not fields.has("quantization_config"):
        return None
    scheme = fields.within("quantization_config")
    method = scheme.text_or_none("quant_method")
    if method == "fp8":
        return _fp8(fields, scheme)
    if method == "mxfp4":
        return Quantization(method, None, 4, 0, _MX_GROUP, 0, _E8M0_BITS, expert_only=True)
    if method == "compressed-tensors":
        return _compressed_tensors(scheme)
    if method in ("awq", "gptq"):
        return _grouped_integers(scheme, method)
    if method == "modelopt":
        return _modelopt(scheme)
    known = "fp8, mxfp4, compressed-tensors, awq, gptq, modelopt"
    raise scheme.wrong("quant_method", Sentence("{!r} is not supported; supported are {}", (method, known)))


def _grouped_integers(scheme: Fields, method: str) -> Quantization:
    """AWQ and GPTQ: integers of `bits`, with a 16-bit scale and a zero point of `bits` for every `group_size`."""
    bits = scheme.count("bits")
    # A group of -1 is a whole column: its scale is not worth counting.
    group = max(0, scheme.count_or("group_size", 0, least=-1))
    scale = _BFLOAT16_BITS + (bits if group else 0)
    return Quantization(method, bits, bits, group, group, scale, scale)


_MODELOPT_BITS = {"FP8": (8, 0), "NVFP4": (4, 16), "W4A16_NVFP4": (4, 16), "NVFP4_AWQ": (4, 16)}
"""Bits of an element and elements that share an 8-bit scale, by `quant_algo` (vllm 0.33.0 modelopt.py)."""


def _modelopt(scheme: Fields) -> Quantization:
    """
    NVIDIA's Model Optimizer: one algorithm, or with `MIXED_PRECISION` several by layer, counted as the largest of them.

    The cache has the type that `kv_cache_scheme` or `kv_cache_quant_algo` says (vllm 0.33.0 utils/torch_utils.py
    `get_kv_cache_quant_algo_string`).
    """
    inner = scheme.within("quantization") if scheme.has("quantization") else scheme
    bits, group = _MODELOPT_BITS.get((inner.text_or_none("quant_algo") or "").upper(), (8, 0))
    return Quantization("modelopt", bits, bits, group, group, 8, 8, kv=_modelopt_cache(inner))


def _modelopt_cache(scheme: Fields) -> str | None:
    name = None
    if scheme.has("kv_cache_scheme"):
        cache = scheme.within("kv_cache_scheme")
        name = (
            {8: "fp8_e4m3", 4: "nvfp4"}.get(cache.count("num_bits")) if cache.text_or_none("type") == "float" else None
        )
    elif scheme.has("kv_cache_quant_algo"):
        name = {"FP8": "fp8_e4m3", "NVFP4": "nvfp4"}.get((scheme.text_or_none("kv_cache_quant_algo") or "").upper())
    return name


def _fp8(fields: Fields, scheme: Fields) -> Quantization:
    rows, columns = 0, 0
    if scheme.has("weight_block_size"):
        rows, columns = scheme.list_of("weight_block_size", int, at_least=2)
    scale = _E8M0_BITS if scheme.text_or_none("scale_fmt") == "ue8m0" else _FLOAT32_BITS
    # Wrappers give the experts' type beside the scheme, not beside the decoder's sizes.
    if "fp4" in (fields.text_or_none("expert_dtype"), scheme.text_or_none("expert_dtype")):
        return Quantization("fp8", 8, 4, rows * columns, _MX_GROUP, scale, _E8M0_BITS, lookup_group=_MX_GROUP)
    return Quantization("fp8", 8, 8, rows * columns, rows * columns, scale, scale)


def _compressed_tensors(scheme: Fields) -> Quantization:
    groups = scheme.within("config_groups")
    if len(groups.values) != 1:
        raise scheme.wrong(
            "config_groups", Sentence("groups are not supported, only one: there are {}", (len(groups.values),))
        )
    weights = groups.within(next(iter(groups.values))).within("weights")
    bits, group = weights.count("num_bits"), weights.count_or("group_size", 0)
    # What is quantised is named by what is left out: only the experts where every other part of a layer is.
    left_out = " ".join(scheme.whole_list("ignore", str))
    experts_only = "self_attn" in left_out and "shared_experts" in left_out
    linear = None if experts_only else bits
    scale = _E8M0_BITS if (scheme.text_or_none("format") or "").startswith("mx") else _BFLOAT16_BITS
    kv = "fp8" if scheme.has("kv_cache_scheme") else None
    return Quantization("compressed-tensors", linear, bits, group, group, scale, scale, expert_only=experts_only, kv=kv)
