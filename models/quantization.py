"""How a published checkpoint stores its weights, from `quantization_config`."""

from __future__ import annotations

from memplan.core.sentence import Sentence
from memplan.models.architecture import Quantization
from memplan.models.fields import Fields
from memplan.models.modelslim import said, says_nothing

_FLOAT32_BITS, _BFLOAT16_BITS, _E8M0_BITS = 32, 16, 8
_MX_GROUP = 32
"""Elements that share one e8m0 scale in the OCP microscaling formats."""


def read_quantization(fields: Fields, outer: Fields) -> Quantization | None:
    """
    The scheme that the whole file `outer` gives, or in wrappers `fields`, the decoder's own object.

    Raises `InputError` naming the method for one that is not known here.
    """
    named = said(outer)
    if named is not None:
        return named
    holder, key = next(
        ((held, key) for key in _KEYS for held in (fields, outer) if held.has(key)), (fields, "quantization_config")
    )
    if not holder.has(key):
        return None
    scheme = holder.within(key)
    method = _method(scheme)
    if method == "fp8":
        return _fp8(fields, scheme)
    if method == "mxfp4":
        return Quantization(method, None, 4, 0, _MX_GROUP, 0, _E8M0_BITS, expert_only=True, weight_only=True)
    if method == "compressed-tensors":
        return _compressed_tensors(scheme)
    if method in ("awq", "gptq"):
        return _grouped_integers(scheme, method)
    if method == "modelopt":
        return _modelopt(scheme)
    if method is None and says_nothing(scheme.values):
        return None
    known = "fp8, mxfp4, compressed-tensors, awq, gptq, modelopt"
    raise scheme.wrong("quant_method", Sentence("{!r} is not supported; supported are {}", (method, known)))


_KEYS = ("quantization_config", "compression_config")
"""Where a scheme stands: the second is an older place of compressed-tensors (see `_method`'s source)."""


def _method(scheme: Fields) -> str | None:
    """
    The scheme's method in one spelling, as engines take it (vllm 0.33.0 model_arch_config_convertor.py
    `_normalize_quantization_config`): in small letters, with a hyphen, and NVIDIA's also by who made it.
    """
    method = scheme.text_or_none("quant_method")
    if method is None:
        made_by = scheme.within("producer").text_or_none("name") if scheme.has("producer") else None
        return "modelopt" if made_by == "modelopt" else None
    method = method.lower().replace("compressed_tensors", "compressed-tensors")
    return "modelopt" if method.startswith("modelopt_") else method


def _grouped_integers(scheme: Fields, method: str) -> Quantization:
    """AWQ and GPTQ: integers of `bits`, with a 16-bit scale and a zero point of `bits` for every `group_size`."""
    bits = scheme.count("bits")
    # A group of -1 is a whole column: its scale is not worth counting.
    group = max(0, scheme.count_or("group_size", 0, least=-1))
    scale = _BFLOAT16_BITS + (bits if group else 0)
    return Quantization(method, bits, bits, group, group, scale, scale, integers=True, weight_only=True)


_MODELOPT_BITS = {"FP8": (8, 0), "NVFP4": (4, 16), "W4A16_NVFP4": (4, 16), "NVFP4_AWQ": (4, 16)}
"""Bits of an element and elements that share an 8-bit scale, by `quant_algo` (vllm 0.33.0 modelopt.py)."""


def _modelopt(scheme: Fields) -> Quantization:
    """
    NVIDIA's Model Optimizer: one algorithm, or with `MIXED_PRECISION` several by layer, counted as the largest of them.

    The cache has the type that `kv_cache_scheme` or `kv_cache_quant_algo` says (vllm 0.33.0 utils/torch_utils.py
    `get_kv_cache_quant_algo_string`).
    """
    inner = scheme.within("quantization") if scheme.has("quantization") else scheme
    algorithm = (inner.text_or_none("quant_algo") or "").upper()
    bits, group = _MODELOPT_BITS.get(algorithm, (8, 0))
    return Quantization(
        "modelopt", bits, bits, group, group, 8, 8, kv=_modelopt_cache(inner), weight_only="A16" in algorithm
    )


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
    only = groups.within(next(iter(groups.values)))
    weights = only.within("weights")
    bits, group = weights.count("num_bits"), weights.count_or("group_size", 0)
    # What is quantised is named by what is left out: only the experts where every other part of a layer is.
    left_out = " ".join(scheme.whole_list("ignore", str))
    experts_only = "self_attn" in left_out and "shared_experts" in left_out
    linear = None if experts_only else bits
    scale = _scale_bits(weights, only.text_or_none("format") or scheme.text_or_none("format") or "")
    kv = "fp8" if scheme.has("kv_cache_scheme") else None
    return Quantization(
        "compressed-tensors", linear, bits, group, group, scale, scale, expert_only=experts_only, kv=kv,
        integers=weights.text_or_none("type") != "float", weight_only=not only.has("input_activations"),
    )  # fmt: skip


_SCALE_BITS = {"uint8": 8, "float8_e4m3fn": 8, "float8_e8m0fnu": 8, "float16": 16, "bfloat16": 16, "float32": 32}


def _scale_bits(weights: Fields, form: str) -> int:
    """
    Bits of a scale of `weights` that are stored as `form`: as they say, else as narrow floats have them, whose scales
    are narrow too (compressed-tensors, `QuantizationArgs.scale_dtype`; `mxfp4-pack-quantized` and
    `nvfp4-pack-quantized` write float8_e8m0 and float8_e4m3).
    """
    told = (weights.text_or_none("scale_dtype") or "").removeprefix("torch.")
    return _SCALE_BITS.get(told, 8 if form.startswith(("mx", "nvfp4")) else _BFLOAT16_BITS)
