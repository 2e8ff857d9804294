"""
What a planned op and a measured kernel are compared by: family, operand sizes, dtype. No names.

Equal ones are one class: a step has thousands of kernels but a few hundred classes, so that pairs of classes are
weighed once and the alignment only looks them up.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from memplan.align.classes.inferred_outputs import inferred_outputs
from memplan.align.classes.op_families import direction_of, families_of, family_table, types_of_family, unknown_type
from memplan.align.classes.weight_pieces import Pieces, pieces_of_ops
from memplan.core.arrays import Bools, Int32s, Int64s
from memplan.core.distinct import distinct, first_rows
from memplan.graph import DTYPE_BITS
from memplan.schema import Plan, PlannedKernel
from memplan.traces.dictionary_array import DictionaryArray, dictionary_encoded
from memplan.traces.operand_shapes import operand_shapes
from memplan.traces.profile import Kernels

_OPERANDS = 12
"""Sizes kept of the inputs and of the outputs of a class; attention and its gradient have up to fifteen, most empty."""
_MOST_ELEMENTS = 1 << 53
"""Larger sizes are all alike: no memory holds them, and columns and their sums have 64 bits."""
_SIXTEEN, _UNKNOWN_BITS = 16, 0
_GROUPED = 3
"""Sides of a weight over several matrices."""


@dataclass(frozen=True, slots=True)
class TokenClass:
    """
    One class: families (the main one first), elements of each operand, bits of an element of the main output.

    `groups` is over how many matrices the weight of a grouped product goes, `makes_groups` whether it makes those, as
    the gradient of such a weight does, `pieces` the operands of the pieces in
    which a run may do it. `rows` are those of the largest input where it is a matrix.
    `widths` are those of the operands of an op that a run may do for some tokens at a time, as for one expert's.
    `reduced` are the elements of what is left of its operands where each row becomes one. `direction` is that
    of its type (`FamilyTable`), 0 where it has none. `unknown` is what a type that no table
    knows is called. `shapes` of its inputs tell no class from another.
    """

    families: tuple[int, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    bits: int
    groups: int = 1
    pieces: Pieces = ()
    rows: int = 0
    makes_groups: bool = False
    widths: tuple[int, ...] = ()
    reduced: tuple[int, ...] = ()
    direction: int = 0
    unknown: str = ""
    shapes: tuple[tuple[int, ...], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class TokenClasses:
    """
    Classes as columns of equal length.

    `main` is the main family, `families[c, f]` whether the type tells family `f`; `inputs` and `outputs` hold the
    elements of each operand in order, 0 where there is none, scalars left out; `known` is whether shapes are known,
    `scalar` whether all operands are scalars, `single` whether results known to be such are among them; `bits` of
    the main output's elements are 0 where unknown; `pieces`, `rows`, `makes_groups`, `widths`, `reduced`, `direction`,
    `unknown` and, of kernels, `shapes` as in `TokenClass`.
    """

    main: Int32s
    families: Bools
    inputs: Int64s
    outputs: Int64s
    known: Bools
    scalar: Bools
    single: Bools
    bits: Int32s
    groups: Int32s
    pieces: tuple[Pieces, ...]
    rows: Int64s
    makes_groups: Bools
    widths: tuple[tuple[int, ...], ...]
    reduced: tuple[tuple[int, ...], ...]
    direction: Int32s
    unknown: tuple[str, ...]
    shapes: tuple[tuple[tuple[int, ...], ...], ...]

    def __len__(self) -> int:
        return len(self.main)

    @property
    def operands(self) -> Int64s:
        """Inputs and outputs side by side."""
        return np.hstack([self.inputs, self.outputs])

    def among(self, families: Collection[int]) -> Bools:
        """Which classes have one of `families` as their main one."""
        return np.isin(self.main, list(families))


def token_classes(found: Sequence[TokenClass]) -> TokenClasses:
    """Classes as columns."""
    count, kinds = len(found), len(family_table().names)
    families = np.zeros((count, kinds), dtype=np.bool_)
    inputs, outputs = (np.zeros((count, _OPERANDS), dtype=np.int64) for _ in range(2))
    known, scalar, single = (np.zeros(count, dtype=np.bool_) for _ in range(3))
    for row, item in enumerate(found):
        families[row, list(item.families)] = True
        for target, sizes in ((inputs, item.inputs), (outputs, item.outputs)):
            kept = [min(size, _MOST_ELEMENTS) for size in sizes if size > 1][:_OPERANDS]
            target[row, : len(kept)] = kept
        known[row] = bool(item.inputs or item.outputs)
        scalar[row] = known[row] and not (inputs[row].any() or outputs[row].any())
        single[row] = scalar[row] and bool(item.outputs)
    main = np.array([item.families[0] for item in found], dtype=np.int32)
    bits = np.array([item.bits for item in found], dtype=np.int32)
    groups = np.array([item.groups for item in found], dtype=np.int32)
    pieces = tuple(item.pieces for item in found)
    rows = np.array([min(item.rows, _MOST_ELEMENTS) for item in found], dtype=np.int64)
    return TokenClasses(
        main, families, inputs, outputs, known, scalar, single, bits, groups, pieces, rows,
        np.array([item.makes_groups for item in found], dtype=np.bool_),
        tuple(item.widths for item in found), tuple(item.reduced for item in found),
        np.array([item.direction for item in found], dtype=np.int32), tuple(item.unknown for item in found),
        tuple(item.shapes for item in found),
    )  # fmt: skip


def kernel_tokens(kernels: Kernels) -> tuple[list[TokenClass], Int32s]:
    """The classes of measured kernels, and the class of each."""
    columns = [
        dictionary_encoded(column)
        for column in (
            _types_or_names(kernels),
            kernels.input_shapes,
            kernels.output_shapes,
            kernels.input_dtypes,
            kernels.output_dtypes,
        )
    ]
    mixed, most = np.zeros(len(kernels), dtype=np.int64), 1
    for column in columns:
        if most * len(column.values) >= _MOST_ELEMENTS:
            values, mixed = distinct(mixed)
            most = len(values)
        mixed, most = mixed * len(column.values) + column.codes, most * len(column.values)
    kinds, classes = distinct(mixed)
    found = []
    for row in first_rows(classes, len(kinds)).tolist():
        text, inputs, outputs, in_types, out_types = (column[row] for column in columns)
        type_, _, name = text.partition("\0")
        families = families_of(type_, name)
        read = operand_shapes(inputs)
        sizes, made = tuple(map(prod, read)), tuple(map(prod, operand_shapes(outputs)))
        bits = _bits(out_types, made) or _bits(in_types, sizes)
        made = made or inferred_outputs(families[0], read)
        direction = direction_of(type_, name)
        shapes = tuple(tuple(shape) for shape in read)
        unknown = unknown_type(type_, name)
        found.append(
            TokenClass(
                families, sizes, made, bits, rows=_rows(read), direction=direction, unknown=unknown, shapes=shapes
            )
        )
    return found, classes.astype(np.int32)


def _types_or_names(kernels: Kernels) -> DictionaryArray:
    """The type of every kernel, with its name behind it where the type tells no family."""
    types = dictionary_encoded(kernels.type)
    unknown = np.array([families_of(type_) == (0,) for type_ in types.values], dtype=np.bool_)
    needs = unknown[types.codes] if len(types.codes) else np.zeros(0, dtype=np.bool_)
    if not needs.any():
        return types
    names = dictionary_encoded(kernels.name)
    name = np.where(needs, names.codes, 0).astype(np.int64)
    pairs = types.codes.astype(np.int64) * (len(names.values) + 1) + np.where(needs, name + 1, 0)
    values, codes = np.unique(pairs, return_inverse=True)
    texts = []
    for value in values.tolist():
        kind, place = divmod(value, len(names.values) + 1)
        texts.append(types.values[kind] + ("\0" + names.values[place - 1] if place else ""))
    return DictionaryArray(codes.astype(np.int32), texts)


def _rows(shapes: Sequence[Sequence[int]]) -> int:
    """Rows of the largest of several shapes, 0 where it is no matrix."""
    largest = max(shapes, key=prod, default=())
    return largest[0] if len(largest) == 2 else 0


def _bits(text: str, sizes: Sequence[int]) -> int:
    """Bits of an element of the largest operand; 16-bit types are one."""
    types = text.strip().strip('"').split(";")
    if not sizes or len(types) < len(sizes):
        return _UNKNOWN_BITS
    return dtype_bits(types[max(range(len(sizes)), key=lambda place: sizes[place])])


def dtype_bits(name: str) -> int:
    """Bits of an element of a dtype by its name in a plan or in a profile, 0 if unknown."""
    plain = name.strip().removeprefix("DT_").removeprefix("torch.").casefold()
    plain = {"bf16": "bfloat16", "float": "float32", "double": "float64", "half": "float16"}.get(plain, plain)
    return DTYPE_BITS.get(plain, _UNKNOWN_BITS)


def plan_tokens(
    plan: Plan, ops: Iterable[int], cut: Mapping[int, Pieces] | None = None
) -> tuple[list[TokenClass], Int32s]:
    """The classes of those ops of a plan, and the class of each; `cut` is what `pieces_of_ops` says, where known."""
    index: dict[TokenClass, int] = {}
    known: dict[tuple[str, int | None, int, bool], int] = {}
    pieces, routed = pieces_of_ops(plan) if cut is None else cut, _beside_grouped_products(plan)
    codes = []
    for number in ops:
        op = plan.ops[number]
        cut_in = pieces.get(number, ())
        key = op.type, op.kernel, id(cut_in), number in routed  # pieces that are alike are mostly one object
        code = known.get(key)
        if code is None:
            launched = None if op.kernel is None else plan.kernels[op.kernel]
            kind = _planned_class(op.type, launched, cut_in, number in routed)
            code = known[key] = index.setdefault(kind, len(index))
        codes.append(code)
    return list(index), np.array(codes, dtype=np.int32)


def _beside_grouped_products(plan: Plan) -> set[int]:
    """Ops that make what a product over several matrices reads, or read what it makes."""
    grouped = family_table().number("grouped_product")
    types = types_of_family((op.type for op in plan.ops), grouped)
    if not types:
        return set()
    products = [op for op in plan.ops if op.kernel is not None and op.type in types]
    read = {tensor for op in products for tensor in op.reads or ()}
    made = {tensor for op in products for tensor in op.writes or ()}
    mine = {op.index for op in products}
    return {
        op.index
        for op in plan.ops
        if op.index not in mine and (not read.isdisjoint(op.writes or ()) or not made.isdisjoint(op.reads or ()))
    }


def _planned_class(type_: str, kernel: PlannedKernel | None, pieces: Pieces, routed: bool) -> TokenClass:
    if kernel is None:
        return TokenClass(
            families_of(type_), (), (), _UNKNOWN_BITS, direction=direction_of(type_), unknown=unknown_type(type_)
        )
    inputs, outputs = (
        [_elements(item.shape) if item is not None else 1 for item in side] for side in (kernel.inputs, kernel.outputs)
    )
    main = max(kernel.outputs, key=lambda item: _elements(item.shape), default=None)
    bits = _UNKNOWN_BITS if main is None else DTYPE_BITS.get(main.dtype, _UNKNOWN_BITS)
    families = families_of(type_)
    groups, makes_groups = 1, False
    if families[0] == family_table().number("grouped_product"):
        makes_groups = any(len(item.shape) == _GROUPED for item in kernel.outputs)
        shapes = (item.shape for item in (*kernel.inputs, *kernel.outputs) if item is not None)
        groups = next((shape[0] for shape in shapes if len(shape) == _GROUPED), 1)
    shapes = (item.shape for item in (*kernel.inputs, *kernel.outputs) if item is not None)
    widths = tuple(sorted({shape[-1] for shape in shapes if len(shape) == 2 and shape[-1] > 1})) if routed else ()
    reduced = _reduced([item.shape for item in (*kernel.inputs, *kernel.outputs) if item is not None])
    return TokenClass(
        families, tuple(inputs), tuple(outputs), bits, groups, pieces,
        makes_groups=makes_groups, widths=widths, reduced=reduced,
        direction=direction_of(type_), unknown=unknown_type(type_),
    )  # fmt: skip


def _reduced(shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Rows of operands: along their last side, or along that of a vector that goes over each of them."""
    sides = {shape[0] for shape in shapes if len(shape) == 1 and shape[0] > 1}
    found = set()
    for shape in shapes:
        if len(shape) > 1 and shape[-1] > 1:
            size = _elements(shape)
            found |= {size // side for side in {shape[-1], *sides} if shape[-1] % side == 0}
    return tuple(sorted(rows for rows in found if rows > 1))


def _elements(shape: Sequence[int]) -> int:
    size = 1
    for dim in shape:
        size *= max(dim, 1)
    return size
