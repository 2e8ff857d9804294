"""From a kernel's operands to the problem that its formula takes: matmul, convolution and attention."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from memplan.cost.attention import AttentionProblem, Walk
from memplan.cost.kernel import Kernel, Operand, is_fused
from memplan.cost.machine import Machine
from memplan.cost.tiling import MatmulProblem
from memplan.graph.model import DTYPE_BITS


@dataclass(frozen=True, slots=True)
class Shaped:
    """
    A problem, or none where the operands make none; `assumed` says what was taken for granted.

    The MAC rate of a product is 0 where the cube does not take its type.
    """

    matmul: MatmulProblem | None = None
    attention: AttentionProblem | None = None
    assumed: str = ""


_Matrix = tuple[tuple[int, ...], int, int]


def _width(dtype: str) -> float:
    return DTYPE_BITS.get(dtype, 16) / 8


_SQUARE = (16, 16)
"""A block of NZ whatever its type, where the cube's sums stay in its own blocks (910)."""


def _matrix(operand: Operand) -> _Matrix:
    """Batch dimensions, rows and columns of a matrix; four more dimensions of NZ storage are folded back."""
    shape = operand.shape
    in_blocks = shape[-2:] == _SQUARE or (len(shape) > 3 and shape[-1] * _width(operand.dtype) == 32)
    if operand.layout == "NZ" and len(shape) >= 4 and in_blocks:
        return shape[:-4], shape[-3] * shape[-2], shape[-4] * shape[-1]
    if len(shape) < 2:
        return (), 1, shape[0] if shape else 1
    return shape[:-2], shape[-2], shape[-1]


def _matrices(a: Operand, b: Operand, out: Operand | None) -> tuple[_Matrix, _Matrix]:
    """
    Both factors as matrices.

    A graph may tell the shape that a tensor had before a view made it a matrix: where that alone multiplies to a result
    of two dimensions, all of a factor's dimensions but the first are one.
    """
    plain = _matrix(a), _matrix(b)
    if out is None or len(out.shape) != 2 or len(a.shape) == len(b.shape) == 2 or "NZ" in (a.layout, b.layout):
        return plain
    viewed = [((), op.shape[0], prod(op.shape[1:])) for op in (a, b) if len(op.shape) > 1]

    def multiply(left: _Matrix, right: _Matrix) -> bool:
        rows, columns = (left[1], left[2]), (right[1], right[2])
        wanted = {(rows[1 - i], columns[1 - j]) for i in (0, 1) for j in (0, 1) if rows[i] == columns[j]}
        return tuple(out.shape) in wanted

    rows = [((), prod(batch) * height, width) for batch, height, width in plain]
    return (viewed[0], viewed[1]) if len(viewed) == 2 and multiply(*viewed) and not multiply(*rows) else plain


def matmul_of(kernel: Kernel, machine: Machine, *, grouped: bool = False, added: bool = False) -> Shaped:
    """
    The product of the first two operands.

    Transposes come from attributes (`transpose_a`, `transpose_b`, `transpose_x1`, ...) or, where a profile gives none,
    from the shapes and the output's. `added`: the first operand is added to the product of the next two.
    """
    tensors = [op for op in kernel.present if len(op.shape) >= 2] or list(kernel.present)
    if added and len(tensors) > 2:
        tensors = tensors[1:]
    if len(tensors) < 2:
        return Shaped()
    out = kernel.outputs[0] if kernel.outputs else None
    (a_batch, a0, a1), (b_batch, b0, b1) = _matrices(tensors[0], tensors[1], out)
    ta, tb = _transposed(kernel, (a0, a1), (b0, b1), _matrix(out)[1:] if out is not None else None)
    m, k = (a1, a0) if ta else (a0, a1)
    n = b0 if tb else b1
    flat = out is not None and len(out.shape) == 2 and len(tensors[0].shape) == 2
    if flat and out is not None and (_matrix(out)[1:] != (m, n) or k != (b1 if tb else b0)):
        # Shapes that do not multiply, as edited profiles hold them: the result and the second operand decide.
        (m, n), k = _matrix(out)[1:], b1 if tb else b0
    if len(tensors[0].shape) > 2 and not b_batch and not grouped and not ta:
        # A product with one matrix for all batches is one product with all rows.
        m, a_batch = m * prod(a_batch), ()
    batch = prod(a_batch) if len(a_batch) >= len(b_batch) else prod(b_batch)
    groups = prod(b_batch)
    if min(m, n, k, batch, groups, prod(a_batch)) < 1:
        return Shaped()
    if grouped and groups == 1:
        # Some frameworks give each expert's weight as an operand of its own.
        groups = sum(op.shape == tensors[1].shape for op in tensors[1:])
    if grouped:
        # Experts that get no token are not read.
        hit = kernel.attribute("groups")
        groups = min(int(hit), groups) if isinstance(hit, int) and hit > 0 else groups
    if grouped and (groups > 1 or b_batch):
        m, batch, a_count, b_count = max(m * prod(a_batch) // groups, 1), groups, groups, groups
    else:
        a_count, b_count = prod(a_batch), groups
    rate = machine.product_rate(tensors[0].dtype) or machine.product_rate(tensors[1].dtype)
    a_bytes, b_bytes = _width(tensors[0].dtype), _width(tensors[1].dtype)
    return Shaped(
        matmul=MatmulProblem(
            m=m,
            n=n,
            k=k,
            batch=batch,
            a_bytes=a_bytes,
            b_bytes=b_bytes,
            out_bytes=_width(out.dtype) if out is not None else 2.0,
            a_run="nz" if tensors[0].layout == "NZ" else "m" if ta else "k",
            b_run="nz" if tensors[1].layout == "NZ" else "k" if tb else "n",
            a_batch=a_count,
            b_batch=b_count,
            mac_rate=rate or 0.0,
            extra_bytes=float(sum(op.nbytes for op in _beside(kernel) if op not in tensors[:2])),
            widening=_widening(tensors[0].dtype, tensors[1].dtype),
            groups_told=grouped,
        )
    )


def _beside(kernel: Kernel) -> tuple[Operand, ...]:
    """What a product may move beside its factors and its result: of fused kernels all other results as well."""
    return (*kernel.present, *kernel.outputs[1:]) if is_fused(kernel.type) else kernel.present


def _widening(activations: str, weights: str) -> float:
    """
    Instructions on a weight of whole numbers that make it a factor of floats; one on halves is half an instruction.

    Casts reach float16 alone, and bfloat16 has no arithmetic (asc-devkit, Cast and Mul of 2201), so goes by float32.
    """
    return _WIDENING.get(activations, 0.0) if weights in _WHOLE else 0.0


_WHOLE = ("int4", "int8")
_WIDENING = {"float16": 0.5 + 0.5, "bfloat16": 0.5 + 3}
_BIASED = 3
"""Operands of a product with a bias."""


def _transposed(
    kernel: Kernel, a: tuple[int, int], b: tuple[int, int], out: tuple[int, int] | None
) -> tuple[bool, bool]:
    names = {key.lower(): value for key, value in kernel.attributes}
    named = [
        next((bool(names[key]) for key in keys if key in names), None)
        for keys in (
            ("transpose_a", "transpose_x1", "transpose_x"),
            ("transpose_b", "transpose_x2", "transpose_weight"),
        )
    ]
    if kernel.type in ("Dense", "Linear") and named[1] is None:
        named[1] = True
    if named[0] is not None and named[1] is not None:
        return named[0], named[1]
    options = [(ta, tb) for ta in (False, True) for tb in (False, True)]
    options = [(ta, tb) for ta, tb in options if named[0] in (None, ta) and named[1] in (None, tb)]
    # Layers keep a row of weights for each result, and only layers add a bias: that tells what square weights don't.
    # What stands in its place beside weights of 8 bits or less are scales.
    plain = _width(kernel.present[1].dtype) > 1
    biased = plain and len(kernel.present) == _BIASED and kernel.present[-1].shape == (b[0],)

    def wrong(option: tuple[bool, bool]) -> tuple[int, bool]:
        ta, tb = option
        m, k = (a[1], a[0]) if ta else a
        k_b, n = (b[1], b[0]) if tb else b
        return (k != k_b) * 4 + ((m, n) != out if out is not None else 0), biased and not tb

    return min(options, key=wrong)


def einsum_of(kernel: Kernel, machine: Machine) -> Shaped:
    """
    An `Einsum` of two operands as one product: labels in both and in the result are batches, labels in both alone are
    summed over. Others (one operand, more than two, `...`) are none.
    """
    equation = kernel.attribute("equation")
    if not isinstance(equation, str) or len(kernel.present) != 2:
        return Shaped()
    given, arrow, result = equation.replace(" ", "").partition("->")
    parts = given.split(",")
    if len(parts) != 2 or "." in equation or not kernel.outputs:
        return Shaped()
    sizes: dict[str, int] = {}
    for part, operand in zip(parts, kernel.present, strict=True):
        if len(part) != len(operand.shape):
            return Shaped()
        sizes.update(zip(part, operand.shape, strict=True))
    if not arrow:
        result = "".join(sorted(label for label in sizes if given.count(label) == 1))
    both = set(parts[0]) & set(parts[1])
    m, n = (prod(sizes[label] for label in set(part) - both) for part in parts)
    batch, k = (prod(sizes[label] for label in both if (label in result) == kept) for kept in (True, False))
    if min(m, n, k, batch) < 1:
        return Shaped()
    a, b = kernel.present
    return Shaped(
        matmul=MatmulProblem(
            m=m, n=n, k=k, batch=batch, a_batch=batch, b_batch=batch, a_bytes=_width(a.dtype), b_bytes=_width(b.dtype),
            out_bytes=_width(kernel.outputs[0].dtype), mac_rate=machine.product_rate(a.dtype) or 0.0,
        )
    )  # fmt: skip


def recurrent_of(kernel: Kernel, machine: Machine) -> Shaped:
    """
    A recurrent layer as one product: every time step of every sequence times all weights of the cell.

    ONNX has the weights of input and of state as its second and third operand; others have both in one, the largest.
    What a step has to wait for the one before it is not in the time.
    """
    if len(kernel.present) < 2 or len(kernel.present[0].shape) != 3:
        return Shaped()
    sequence, *others = kernel.present
    rows, entries = sequence.shape[0] * sequence.shape[1], sequence.shape[2]
    weights = others[:2] if len(others) > 1 and others[0].shape[:-1] == others[1].shape[:-1] else []
    if len(weights) != 2 or len(weights[0].shape) != 3 or weights[0].shape[2] != entries:
        weights = [max(others, key=lambda operand: operand.count)]
    count = sum(operand.count for operand in weights)
    k = entries + (weights[1].shape[2] if len(weights) == 2 else 0)
    if min(rows, k, count // max(k, 1)) < 1:
        return Shaped()
    width = _width(sequence.dtype)
    return Shaped(
        matmul=MatmulProblem(
            m=rows, n=count // k, k=k, a_bytes=width, b_bytes=width, out_bytes=width,
            mac_rate=machine.product_rate(sequence.dtype) or 0.0,
        ),
        assumed="time steps are not waited for one by one",
    )  # fmt: skip


def chunk_products_of(kernel: Kernel, machine: Machine) -> Shaped:
    """
    Products that one kernel does in each of many chunks, as one product of its attributes `chunks`, `rows`, `columns`
    and `terms`. What its operands have beyond that product's is moved as well.

    What a chunk has to wait for the one before it is not in the time.
    """
    sizes = [kernel.attribute(name) for name in ("chunks", "rows", "columns", "terms")]
    chunks, rows, columns, terms = (size if isinstance(size, int) else 0 for size in sizes)
    if min(chunks, rows, columns, terms) < 1 or not kernel.present or not kernel.outputs:
        return Shaped()
    width = _width(kernel.present[0].dtype)
    problem = MatmulProblem(
        m=rows, n=columns, k=terms, batch=chunks, a_batch=chunks, b_batch=chunks, a_bytes=width, b_bytes=width,
        out_bytes=_width(kernel.outputs[0].dtype), mac_rate=machine.product_rate(kernel.present[0].dtype) or 0.0,
    )  # fmt: skip
    counted = problem.a_total + problem.b_total + problem.c_total
    extra = max(kernel.read_bytes + kernel.written_bytes - counted, 0.0)
    return Shaped(matmul=replace(problem, extra_bytes=extra), assumed="chunks are not waited for one by one")


_LAYOUTS = ("BSH", "BNSD", "SBH", "BSND", "TND")
"""Attention layouts in the order of MindSpore's enumeration, by which compiled graphs name them."""


def attention_of(kernel: Kernel, *, gradient: bool) -> Shaped:
    """
    The attention that `kernel` computes, from its layout attribute or, in a profile, from the softmax statistics.

    A mask makes it causal unless the attributes say otherwise; that is said in `assumed`. None is told of keys in pages
    but by attributes.
    """
    described = _described(kernel, gradient)
    if described is not None:
        return Shaped(attention=described)
    if in_pages(kernel) or len(kernel.present) < 3 or len(kernel.present[0].shape) < 2:
        return Shaped()
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
        return Shaped()
    batch, n, n_kv, s, s_kv, d, d_v = dims
    masked = any(op.dtype in _MASKS and len(op.shape) >= 2 for op in kernel.present[3:])
    mode = kernel.attribute("sparse_mode")
    mode = mode if isinstance(mode, int) else None
    causal = masked if mode is None else mode in (1, 2, 3, 4) or (masked and mode == 0)
    before = kernel.attribute("pre_tokens")
    window = before + 1 if mode in (0, 4) and isinstance(before, int) and 0 <= before < s_kv - 1 else 0
    width = _width(query.dtype)
    told = ["sequences are equally long" if batch > 1 else "one sequence"] if packed else []
    return Shaped(
        attention=AttentionProblem(
            batch=batch, heads=n, kv_heads=n_kv, q_len=s, kv_len=s_kv, d_qk=d, d_v=d_v,
            causal=bool(causal) and s > 1, q_bytes=width, kv_bytes=_width(key.dtype), window=window, gradient=gradient,
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
    return _width(whole[0].dtype) if whole else 0.0


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
        q_bytes=_width(kernel.present[0].dtype),
        kv_bytes=_width(kernel.present[1].dtype),
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
