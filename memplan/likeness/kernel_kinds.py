"""The kernels of one step by what they do and on which shapes, in the order they ran."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isqrt, prod

import numpy as np

from memplan.align.classes.op_families import families_of, family_table
from memplan.core.arrays import Int64s
from memplan.traces.dictionary_array import dictionary_encoded
from memplan.traces.operand_shapes import operand_shapes
from memplan.traces.profile import Kernels

KernelShape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KernelKind:
    """
    Equal kernels: their type (their name where none is recorded) and families, and shape and dtype of every operand
    (`()`: a scalar or none).
    """

    type: str
    families: tuple[str, ...]
    inputs: tuple[KernelShape, ...]
    outputs: tuple[KernelShape, ...]
    dtypes: tuple[str, ...]

    @property
    def family(self) -> str:
        """The main family."""
        return self.families[0]

    @property
    def product(self) -> tuple[int, int, int] | None:
        """
        Rows, columns and depth of a matrix product, whatever the order and the layout of its operands.

        `m x k` and `k x n` elements go in and `m x n` come out, which gives `k`.
        """
        if self.family != "product" or len(self.inputs) < 2 or not self.outputs or len(self.outputs[0]) < 2:
            return None
        one, other = (prod(shape) for shape in self.inputs[:2])
        m, n = prod(self.outputs[0][:-1]), self.outputs[0][-1]
        if not m * n or one * other % (m * n):
            return None
        k = isqrt(one * other // (m * n))
        return (m, n, k) if k * k * m * n == one * other and {one, other} == {m * k, k * n} else None


@dataclass(frozen=True, slots=True)
class KernelSteps:
    """
    Kernels as rows in order of time: `kind` indexes `kinds`; `rows` are those of the step that is looked at.

    `steps` is how many steps the profile has in all, as far as its kernels tell.
    """

    kinds: tuple[KernelKind, ...]
    kind: Int64s
    rows: Int64s
    steps: int

    @property
    def shaped(self) -> bool:
        """Whether kernels have shapes, which the lowest level of profiling leaves out."""
        return any(kind.inputs for kind in self.kinds)

    def count(self, wanted: Callable[[KernelKind], bool]) -> int:
        """How many kernels of the step are `wanted`."""
        return sum(number for item, number in self.counted() if wanted(item))

    def counted(self) -> list[tuple[KernelKind, int]]:
        """Kinds of the step with their numbers, most frequent first."""
        numbers = np.bincount(self.kind[self.rows], minlength=len(self.kinds))
        order = np.argsort(-numbers, kind="stable")
        return [(self.kinds[place], int(numbers[place])) for place in order.tolist() if numbers[place]]

    def sequence(self, sign: Callable[[KernelKind], str]) -> str:
        """One letter for each kernel of the step that `sign` gives one (kinds without are left out), in order."""
        signs = np.array([sign(item) or "\0" for item in self.kinds], dtype="U1")
        return "".join(signs[self.kind[self.rows]].tolist()).replace("\0", "") if len(self.kinds) else ""


def kernel_kinds(kernels: Kernels) -> tuple[tuple[KernelKind, ...], Int64s]:
    """The kinds of `kernels`, and the kind of each."""
    texts = (
        kernels.type, kernels.name, kernels.input_shapes, kernels.output_shapes, kernels.input_dtypes,
    )  # fmt: skip
    columns = [dictionary_encoded(column) for column in texts]
    unknown = np.array([families_of(value) == (0,) for value in columns[0].values], dtype=np.bool_)
    mixed = columns[0].codes.astype(np.int64)
    # A name counts only where the type tells nothing: names differ between kernels that are otherwise equal.
    named = np.where(unknown[columns[0].codes], columns[1].codes + 1, 0) if len(mixed) else mixed
    for codes, size in ((named, len(columns[1].values) + 1), *((c.codes, len(c.values)) for c in columns[2:])):
        _, mixed = np.unique(mixed * size + codes, return_inverse=True)
    _, first, kind = np.unique(mixed, return_index=True, return_inverse=True)
    names = family_table().names
    found = []
    for row in first.tolist():
        type_, name, inputs, outputs, dtypes = (column[row] for column in columns)
        found.append(
            KernelKind(
                type=name if type_ in ("", "N/A") else type_,
                families=tuple(names[number] for number in families_of(type_, name)),
                inputs=operand_shapes(inputs),
                outputs=operand_shapes(outputs),
                dtypes=tuple(dtypes.strip().strip('"').split(";")) if dtypes.strip() not in ("", "N/A") else (),
            )
        )
    return tuple(found), kind.astype(np.int64)


def one_step(kernels: Kernels) -> KernelSteps:
    """
    The kernels with one complete step picked out: by the step numbers they have, else by where the optimiser ends.

    Of several the one with the most usual number of kernels is taken, the last of those.
    """
    kinds, kind = kernel_kinds(kernels)
    numbered = kernels.step >= 0
    if numbered.any():
        groups = [np.flatnonzero(kernels.step == number) for number in np.unique(kernels.step[numbered]).tolist()]
    else:
        groups = _by_optimizer(kinds, kind)
    lengths = [len(group) for group in groups]
    usual = max(set(lengths), key=lambda length: (lengths.count(length), length))
    chosen = max(place for place, length in enumerate(lengths) if length == usual)
    return KernelSteps(kinds, kind, groups[chosen], len(groups))


def _by_optimizer(kinds: Sequence[KernelKind], kind: Int64s) -> list[Int64s]:
    """Rows of each training step, cut where products begin again behind updates of weights; else all as one."""
    families = np.array([item.family for item in kinds])[kind]
    updates = np.flatnonzero(families == "optimizer")
    heavy = np.flatnonzero(np.isin(families, ("product", "grouped_product", "attention")))
    rows = np.arange(len(kind))
    if not len(updates) or not len(heavy):
        return [rows]
    last = updates[
        np.flatnonzero(np.append(np.searchsorted(heavy, updates)[1:], -1) != np.searchsorted(heavy, updates))
    ]
    # What follows the last update of a step up to the first product of the next one belongs to either; it counts here.
    cuts = [0, *(int(place) + 1 for place in last.tolist()), len(kind)]
    parts = [rows[begin:end] for begin, end in pairwise(cuts)]
    whole = [part for part in parts if np.isin(families[part], ("product", "optimizer")).any()]
    complete = [part for part in whole if (families[part] == "optimizer").any()]
    return complete or whole or [rows]
