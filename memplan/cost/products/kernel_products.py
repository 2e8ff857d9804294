"""From a kernel's operands to the matrix product that it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from memplan.cost.attention import AttentionProblem
from memplan.cost.kernels.kernel import Kernel, Operand, element_bytes
from memplan.cost.kernels.op_classes import is_among, is_fused
from memplan.cost.machine import Machine
from memplan.cost.products.chunk_kernels import CHUNK_SIZES, attribute_sizes
from memplan.cost.products.matmul_problem import MatmulProblem
from memplan.graph.model import DTYPE_BITS


@dataclass(frozen=True, slots=True)
class ProductOperands:
    """
    A problem, or none where the operands make none; `assumed` says what was taken for granted.

    The MAC rate of a product is 0 where the cube does not take its type.
    """

    matmul: MatmulProblem | None = None
    attention: AttentionProblem | None = None
    assumed: str = ""


_Matrix = tuple[tuple[int, ...], int, int]
_SQUARE = (16, 16)
"""A block of NZ whatever its type, where the cube's sums stay in its own blocks (910)."""


def _matrix(operand: Operand) -> _Matrix:
    """Batch dimensions, rows and columns of a matrix; four more dimensions of NZ storage are folded back."""
    shape = operand.shape
    in_blocks = shape[-2:] == _SQUARE or (len(shape) > 3 and shape[-1] * element_bytes(operand.dtype) == 32)
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


def matmul_of(kernel: Kernel, machine: Machine, *, grouped: bool = False, added: bool = False) -> ProductOperands:
    """
    The product of the first two operands.

    Transposes come from attributes (`transpose_a`, `transpose_b`, `transpose_x1`, ...) or, where a profile gives none,
    from the shapes and the output's. `added`: the first operand is added to the product of the next two.
    """
    tensors = [op for op in kernel.present if len(op.shape) >= 2] or list(kernel.present)
    if added and len(tensors) > 2:
        tensors = tensors[1:]
    if len(tensors) < 2:
        return ProductOperands()
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
        return ProductOperands()
    if grouped and groups == 1:
        # Some frameworks give each expert's weight as an operand of its own.
        groups = sum(op.shape == tensors[1].shape for op in tensors[1:])
    if grouped:
        # Experts that get no token are not read.
        hit = kernel.attribute("groups")
        groups = min(int(hit), groups) if isinstance(hit, int) and hit > 0 else groups
        groups = min(groups, m * prod(a_batch))
    if grouped and (groups > 1 or b_batch):
        m, batch, a_count, b_count = max(m * prod(a_batch) // groups, 1), groups, groups, groups
    else:
        a_count, b_count = prod(a_batch), groups
    rate = machine.product_rate(tensors[0].dtype) or machine.product_rate(tensors[1].dtype)
    a_bytes, b_bytes = element_bytes(tensors[0].dtype), element_bytes(tensors[1].dtype)
    widening, assumed = _widening(tensors[0].dtype, tensors[1].dtype), ""
    if not rate and _is_narrow(tensors[1].dtype):
        half = "bfloat16" if machine.product_rate("bfloat16") else "float16"
        rate, a_bytes, widening = machine.product_rate(half), element_bytes(half), _WIDENING[half]
        assumed = _WIDENED
    return ProductOperands(
        matmul=MatmulProblem(
            m=m,
            n=n,
            k=k,
            batch=batch,
            a_bytes=a_bytes,
            b_bytes=b_bytes,
            out_bytes=element_bytes(out.dtype) if out is not None else 2.0,
            a_run="nz" if tensors[0].layout == "NZ" else "m" if ta else "k",
            b_run="nz" if tensors[1].layout == "NZ" else "k" if tb else "n",
            a_batch=a_count,
            b_batch=b_count,
            mac_rate=rate or 0.0,
            extra_bytes=float(sum(op.nbytes for op in _beside(kernel) if op not in tensors[:2])),
            widening=widening,
            groups_told=grouped,
            in_base_blocks=_in_base_blocks(kernel, tensors, machine),
        ),
        assumed=assumed,
    )


def _in_base_blocks(kernel: Kernel, factors: Sequence[Operand], machine: Machine) -> bool:
    """Whether it is the library's product of whole numbers where cube and vector share no buffer."""
    whole = all(factor.dtype in _WHOLE for factor in factors[:2])
    return whole and not machine.direct and is_among(kernel.type, "base_blocks", "types")


def _beside(kernel: Kernel) -> tuple[Operand, ...]:
    """What a product may move beside its factors and its result: of fused kernels all other results as well."""
    return (*kernel.present, *kernel.outputs[1:]) if is_fused(kernel.type) else kernel.present


def _widening(activations: str, weights: str) -> float:
    """
    Instructions on a weight of whole numbers that make it a factor of floats; one on halves is half an instruction.

    Casts reach float16 alone, and bfloat16 has no arithmetic (asc-devkit, Cast and Mul of 2201), so goes by float32.
    """
    return _WIDENING.get(activations, 0.0) if weights in _WHOLE else 0.0


def _is_narrow(dtype: str) -> bool:
    """Whether it is a float of less than 16 bits."""
    return "float" in dtype and DTYPE_BITS.get(dtype, _HALF_BITS) < _HALF_BITS


_WHOLE, _HALF_BITS = ("int4", "int8"), 16
_WIDENED = "the cube does not take this type: multiplied in 16 bits, which vector units make of the weights"
"""What engines do for narrow floats where a chip has no unit for them, if they serve them at all."""
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
    plain = element_bytes(kernel.present[1].dtype) > 1
    biased = plain and len(kernel.present) == _BIASED and kernel.present[-1].shape == (b[0],)

    def wrong(option: tuple[bool, bool]) -> tuple[int, bool]:
        ta, tb = option
        m, k = (a[1], a[0]) if ta else a
        k_b, n = (b[1], b[0]) if tb else b
        return (k != k_b) * 4 + ((m, n) != out if out is not None else 0), biased and not tb

    return min(options, key=wrong)


def einsum_of(kernel: Kernel, machine: Machine) -> ProductOperands:
    """
    An `Einsum` of two operands as one product: labels in both and in the result are batches, labels in both alone are
    summed over. Others (one operand, more than two, `...`) are none.
    """
    equation = kernel.attribute("equation")
    if not isinstance(equation, str) or len(kernel.present) != 2:
        return ProductOperands()
    given, arrow, result = equation.replace(" ", "").partition("->")
    parts = given.split(",")
    if len(parts) != 2 or "." in equation or not kernel.outputs:
        return ProductOperands()
    sizes: dict[str, int] = {}
    for part, operand in zip(parts, kernel.present, strict=True):
        if len(part) != len(operand.shape):
            return ProductOperands()
        sizes.update(zip(part, operand.shape, strict=True))
    if not arrow:
        result = "".join(sorted(label for label in sizes if given.count(label) == 1))
    both = set(parts[0]) & set(parts[1])
    m, n = (prod(sizes[label] for label in set(part) - both) for part in parts)
    batch, k = (prod(sizes[label] for label in both if (label in result) == kept) for kept in (True, False))
    if min(m, n, k, batch) < 1:
        return ProductOperands()
    a, b = kernel.present
    return ProductOperands(
        matmul=MatmulProblem(
            m=m, n=n, k=k, batch=batch, a_batch=batch, b_batch=batch,
            a_bytes=element_bytes(a.dtype), b_bytes=element_bytes(b.dtype),
            out_bytes=element_bytes(kernel.outputs[0].dtype), mac_rate=machine.product_rate(a.dtype) or 0.0,
        )
    )  # fmt: skip


def recurrent_of(kernel: Kernel, machine: Machine) -> ProductOperands:
    """
    A recurrent layer as one product: every time step of every sequence times all weights of the cell.

    ONNX has the weights of input and of state as its second and third operand; others have both in one, the largest.
    What a step has to wait for the one before it is not in the time.
    """
    if len(kernel.present) < 2 or len(kernel.present[0].shape) != 3:
        return ProductOperands()
    sequence, *others = kernel.present
    rows, entries = sequence.shape[0] * sequence.shape[1], sequence.shape[2]
    weights = others[:2] if len(others) > 1 and others[0].shape[:-1] == others[1].shape[:-1] else []
    if len(weights) != 2 or len(weights[0].shape) != 3 or weights[0].shape[2] != entries:
        weights = [max(others, key=lambda operand: operand.count)]
    count = sum(operand.count for operand in weights)
    k = entries + (weights[1].shape[2] if len(weights) == 2 else 0)
    if min(rows, k, count // max(k, 1)) < 1:
        return ProductOperands()
    width = element_bytes(sequence.dtype)
    return ProductOperands(
        matmul=MatmulProblem(
            m=rows, n=count // k, k=k, a_bytes=width, b_bytes=width, out_bytes=width,
            mac_rate=machine.product_rate(sequence.dtype) or 0.0,
        ),
        assumed="time steps are not waited for one by one",
    )  # fmt: skip


def chunk_products_of(kernel: Kernel, machine: Machine) -> ProductOperands:
    """
    Products that one kernel does in each of many chunks, as one product of its attributes `chunks`, `rows`, `columns`
    and `terms`. What its operands have beyond that product's is moved as well.

    What a chunk has to wait for the one before it is not in the time.
    """
    sizes = attribute_sizes(kernel, *CHUNK_SIZES)
    if sizes is None or not kernel.present or not kernel.outputs:
        return ProductOperands()
    chunks, rows, columns, terms = sizes
    width = element_bytes(kernel.present[0].dtype)
    problem = MatmulProblem(
        m=rows, n=columns, k=terms, batch=chunks, a_batch=chunks, b_batch=chunks, a_bytes=width, b_bytes=width,
        out_bytes=element_bytes(kernel.outputs[0].dtype), mac_rate=machine.product_rate(kernel.present[0].dtype) or 0.0,
    )  # fmt: skip
    counted = problem.a_total + problem.b_total + problem.c_total
    extra = max(kernel.read_bytes + kernel.written_bytes - counted, 0.0)
    return ProductOperands(matmul=replace(problem, extra_bytes=extra), assumed="chunks are not waited for one by one")
