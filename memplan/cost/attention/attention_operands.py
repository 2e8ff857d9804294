"""From a kernel's operands to the attention that it computes."""

from __future__ import annotations

from dataclasses import dataclass

from memplan.cost.attention.attention_problem import AttentionProblem
from memplan.cost.attention.key_walks import Walk
from memplan.cost.kernels.kernel import Kernel, Operand, element_bytes


@dataclass(frozen=True, slots=True)
class AttentionOperands:
    """The attention that operands tell, `None` where they tell none; `assumed` says what was taken for granted."""

    attention: AttentionProblem | None = None
    assumed: str = ""


_LAYOUTS = ("BSH", "BNSD", "SBH", "BSND", "TND")
"""Attention layouts in the order of MindSpore's enumeration, by which compiled graphs name them."""


def attention_of(kernel: Kernel, *, gradient: bool) -> AttentionOperands:
    """
    The attention that `kernel` computes, from its layout attribute or, in a profile, from the softmax statistics.

    A mask makes it causal unless the attributes say otherwise; that is said in `assumed`. None is told of keys in pages
    but by attributes.
    """
    described = _described(kernel, gradient)
    if described is not None:
        return AttentionOperands(attention=described)
    if in_pages(kernel) or len(kernel.present) < 3 or len(kernel.present[0].shape) < 2:
        return AttentionOperands()
    query, key, value = kernel.present[:3]
    statistics = next(
        (op for op in (*kernel.outputs, *kernel.present[3:]) if len(op.shape) == 4 and op.shape[-1] == 8), None
    )
    layout = kernel.attribute("input_layout")
    if isinstance(layout, int) and 0 <= layout < len(_LAYOUTS):
        layout = _LAYOUTS[layout]
    heads = kernel.attribute("head_num") or kernel.attribute("num_heads")
    dims = _packed_dims(kernel, layout, heads)
    packed = dims is not None
    if dims is None:
        dims = _attention_dims(query.shape, key.shape, value.shape, layout, heads, statistics)
    if dims is None or min(dims) < 1:
        return AttentionOperands()
    batch, n, n_kv, s, s_kv, d, d_v = dims
    masked = any(op.dtype in _MASKS and len(op.shape) >= 2 for op in kernel.present[3:])
    mode = kernel.attribute("sparse_mode")
    mode = mode if isinstance(mode, int) else None
    causal = masked if mode is None else mode in (1, 2, 3, 4) or (masked and mode == 0)
    before = kernel.attribute("pre_tokens")
    window = before + 1 if mode in (0, 4) and isinstance(before, int) and 0 <= before < s_kv - 1 else 0
    told = ["sequences are equally long" if batch > 1 else "one sequence"] if packed else []
    return AttentionOperands(
        attention=AttentionProblem(
            batch=batch, heads=n, kv_heads=n_kv, q_len=s, kv_len=s_kv, d_qk=d, d_v=d_v,
            causal=bool(causal) and s > 1, q_bytes=element_bytes(query.dtype), kv_bytes=element_bytes(key.dtype),
            window=window, gradient=gradient,
            mask_bytes=_added_mask(kernel, s, s_kv), dropout=_drops(kernel, batch * n * s * s_kv),
            in_turn=_of_first_library(kernel, gradient=gradient),
        ),
        assumed="; ".join([*told, "the mask is causal"] if masked and mode is None else told),
    )  # fmt: skip


def in_pages(kernel: Kernel) -> bool:
    """
    Whether keys lie in pages that a table lists for each sequence (`block_table`: int32, sequences by pages at most).

    Then the operands tell how large the pool of pages is, and not how long the sequences are.
    """
    return any(op.dtype == "int32" and len(op.shape) == 2 for op in kernel.present[3:])


def _added_mask(kernel: Kernel, s: int, s_kv: int) -> float:
    """Bytes a pair of a mask or bias of floats for all pairs that is added to the scores, 0 where there is none."""
    whole = [op for op in kernel.present[3:] if op.shape[-2:] == (s, s_kv) and op.dtype in _FLOATS]
    return element_bytes(whole[0].dtype) if whole else 0.0


def _of_first_library(kernel: Kernel, *, gradient: bool) -> bool:
    """
    Whether the attention mask is of floats: only the experimental operator took such ones, later it is bool or uint8.

    Source: the operator's definition as CANN's packages of 2023 had it (`REG_OP(FlashAttentionScore)`, "THIS FUNCTION
    IS EXPERIMENTAL", `atten_mask` of float16, float or bfloat16), and that of today's ops-transformer.
    """
    place = _MASK_OF_GRADIENT if gradient else _MASK
    named = kernel.type.removesuffix("Grad") == "FlashAttentionScore"
    mask = kernel.inputs[place] if named and len(kernel.inputs) > place else None
    return mask is not None and len(mask.shape) >= 2 and mask.dtype in _FLOATS


_MASK, _MASK_OF_GRADIENT = 6, 7
"""Places of the attention mask among the inputs of `FlashAttentionScore` and of its gradient."""
_FLOATS = frozenset({"float16", "bfloat16", "float32"})
_MASKS = frozenset({"bool", "int8", "uint8"})
"""Types of masks of one element a pair (operator pages of FlashAttentionScore and FusedInferAttentionScore)."""
_SPARE_BITS = 1024
"""Bits beyond one a pair that a mask of what is kept may have, for alignment."""


def _drops(kernel: Kernel, pairs: int) -> bool:
    """Whether an operand holds one bit a pair: which probabilities are kept."""
    return any(
        op.dtype == "uint8" and len(op.shape) == 1 and 0 <= op.count * 8 - pairs <= _SPARE_BITS
        for op in kernel.present[3:]
    )


_PROBLEM = (
    "batch", "heads", "kv_heads", "q_len", "kv_len", "d_qk", "d_v", "window", "chunk", "ratio", "top_k", "page",
    "shared_kv", "indexer", "causal",
)  # fmt: skip
"""Fields of an attention problem that graphs built from a model's description give as attributes."""


def _described(kernel: Kernel, gradient: bool) -> AttentionProblem | None:
    """The problem that the attributes spell out, `None` where they don't; types are those of query and cache."""
    if len(kernel.present) < 2 or kernel.attribute("q_len") is None or kernel.attribute("kv_len") is None:
        return None
    given = {name: kernel.attribute(name) for name in _PROBLEM}
    values = {name: int(value) for name, value in given.items() if isinstance(value, (int, float))}
    flags = {name: bool(values.pop(name)) for name in ("shared_kv", "indexer", "causal") if name in values}
    # An indexer scores keys and has no values.
    if any(values.get(name, 0) < 1 for name in ("batch", "heads", "kv_heads", "q_len", "kv_len", "d_qk")):
        return None
    if values.get("d_v", -1) < 0:
        return None
    return AttentionProblem(
        **values,
        shared_kv=flags.get("shared_kv", False),
        indexer=flags.get("indexer", False),
        causal=flags.get("causal", True),
        q_bytes=element_bytes(kernel.present[0].dtype),
        kv_bytes=element_bytes(kernel.present[1].dtype),
        gradient=gradient,
        dropout=False,
        in_turn=False,
        paged_by=Walk.PAGED if kernel.type == Walk.PAGED.value else Walk.FUSED,
    )


_Dims = tuple[int, int, int, int, int, int, int]


def _packed_dims(kernel: Kernel, layout: object, heads: object) -> _Dims | None:
    """
    As `_attention_dims`, of sequences that lie behind each other: tokens by heads (TND), or by the width of all heads.

    How many there are is the length of the list of their ends (`actual_seq_qlen`), 1 without one. TND is told by the
    layout, or by softmax statistics of every token and head. Rows of all heads are of 128 each where nothing tells.
    """
    query, key, value = (operand.shape for operand in kernel.present[:3])
    rest = (*kernel.outputs, *kernel.present[3:])
    by_head = layout == "TND" or any(len(op.shape) == 3 and op.shape == (*query[:2], 8) for op in rest)
    ends = [op.shape[0] for op in kernel.present[3:] if op.dtype in ("int64", "int32") and len(op.shape) == 1]
    sequences = max(ends[0], 1) if ends else 1
    if len(query) == len(key) == len(value) == 3 and by_head:
        n, n_kv, d, d_v = query[1], key[1], query[2], value[2]
    elif len(query) == len(key) == len(value) == 2:
        n = int(heads) if isinstance(heads, (int, float)) and heads >= 1 else max(query[1] // 128, 1)
        d = max(query[1] // n, 1)
        n_kv = max(key[1] // d, 1)
        d_v = max(value[1] // n_kv, 1)
    else:
        return None
    return sequences, n, n_kv, max(query[0] // sequences, 1), max(key[0] // sequences, 1), d, d_v


def _attention_dims(
    query: tuple[int, ...],
    key: tuple[int, ...],
    value: tuple[int, ...],
    layout: object,
    heads: object,
    statistics: Operand | None,
) -> _Dims | None:
    """Batch, heads, KV heads, query and key lengths, and the two head sizes; `None` for a layout not understood."""
    if not len(query) == len(key) == len(value):
        return None
    if len(query) == 4:
        if layout == "BSND":
            return query[0], query[2], key[2], query[1], key[1], query[3], value[3]
        return query[0], query[1], key[1], query[2], key[2], query[3], value[3]
    if len(query) != 3:
        return None
    if statistics is not None:
        batch, n, s, _ = statistics.shape
        first = query[0] == s and (query[1] == batch or layout == "SBH")
        s_kv = key[0] if first else key[1]
        d = max(query[2] // max(n, 1), 1)
        return batch, n, max(key[2] // d, 1), s, s_kv, d, max(value[2] // max(key[2] // d, 1), 1)
    n = int(heads) if isinstance(heads, (int, float)) and heads >= 1 else 0
    if not n:
        # Without a head count: heads of 128, the size almost every model uses.
        n = max(query[2] // 128, 1)
    d = max(query[2] // n, 1)
    n_kv = max(key[2] // d, 1)
    if layout == "SBH" or (layout is None and query[0] > query[1]):
        return query[1], n, n_kv, query[0], key[0], d, max(value[2] // n_kv, 1)
    return query[0], n, n_kv, query[1], key[1], d, max(value[2] // n_kv, 1)
