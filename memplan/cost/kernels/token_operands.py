"""Of caches, tables and scores that kernels take whole, what they touch."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from memplan.cost.kernels.kernel import Kernel, Operand, element_bytes
from memplan.cost.kernels.op_classes import op_class, writes_cache


def of_tokens_alone(kernel: Kernel) -> Kernel:
    """
    `kernel` with what its tokens touch of caches that it writes and of tables of rotary angles, others as they are.

    A cache of pages is an operand like any other, and where a profile gives results it is one again, but only what the
    tokens have is moved: what comes first. Of a table of every position a token reads one row. An optimiser of sparse
    gradients touches the rows that its indices name; of a picked loss's gradient the scores are told for their shape.
    """
    rule = op_class(kernel.type)
    if rule.rule == "rotary":
        kernel = _with_rows_of_tokens(kernel)
    elif rule.kind == "optimizer":
        return _with_rows_of_gradient(kernel)
    elif rule.rule == "picked_loss_gradient" and kernel.outputs:
        shape = kernel.outputs[0].shape
        return replace(kernel, inputs=tuple(each for each in kernel.present if each.shape != shape))
    if not kernel.present or not writes_cache(kernel.type):
        return kernel
    tokens = kernel.present[0].count
    inputs = tuple(each for each in kernel.present if not _is_cache(each, tokens))
    if len(inputs) == len(kernel.present):
        return kernel
    others = tuple(each for each in kernel.outputs if not _is_cache(each, tokens))
    written = tuple(each for each in inputs if each.count == tokens or (rule.rule == "copy" and len(each.shape) > 1))
    if any(_in_blocks(each, kernel.present[0]) for each in kernel.present if _is_cache(each, tokens)):
        written = tuple(replace(each, layout="NZ") for each in written)
    return replace(kernel, inputs=inputs, outputs=(*others, *written))


def _with_rows_of_gradient(kernel: Kernel) -> Kernel:
    """`kernel` with its tables cut to the rows of a gradient that has fewer, where as many integers say which."""
    table = kernel.present[0] if kernel.present else None
    if table is None or len(table.shape) < _TABLE_DIMS:
        return kernel
    counts = {each.count for each in kernel.present if "int" in each.dtype and len(each.shape) == 1}
    rows = {each.shape[0] for each in kernel.present[1:] if each.shape[1:] == table.shape[1:]} & counts
    if not rows or max(rows) >= table.shape[0]:
        return kernel

    def cut(operand: Operand) -> Operand:
        whole = operand.shape == table.shape
        return replace(operand, shape=(max(rows), *operand.shape[1:]), stored=-1) if whole else operand

    inputs = tuple(None if each is None else cut(each) for each in kernel.inputs)
    return replace(kernel, inputs=inputs, outputs=tuple(cut(each) for each in kernel.outputs))


_TABLE_DIMS, _HEAD_DIMS = 2, 2
"""Axes of a table of angles by position, and those of heads and their elements behind the tokens of what is turned."""


def _with_rows_of_tokens(kernel: Kernel) -> Kernel:
    """`kernel` with its tables of angles cut to a row a token; without results it turns its operands in place."""
    tokens = prod(kernel.present[0].shape[:-_HEAD_DIMS]) if kernel.present else 0
    if not tokens:
        return kernel
    inputs: list[Operand | None] = []
    turned: list[Operand] = []
    for each in kernel.inputs:
        if each is not None and len(each.shape) == _TABLE_DIMS and each.shape[0] > tokens:
            inputs.append(replace(each, shape=(tokens, each.shape[1]), stored=-1))
            continue
        inputs.append(each)
        turned += [each] if each is not None and len(each.shape) > _TABLE_DIMS else []
    in_place = () if writes_cache(kernel.type) else tuple(turned)
    return replace(kernel, inputs=tuple(inputs), outputs=kernel.outputs or in_place)


_PAGED = 3
"""Axes that a cache of pages has at least: pages, their tokens, and what is kept of each."""


def _is_cache(operand: Operand, tokens: int) -> bool:
    return len(operand.shape) >= _PAGED and operand.count > tokens


def _in_blocks(cache: Operand, tokens: Operand) -> bool:
    """Whether a cache has the elements of a token in blocks of 32 bytes, those of a page's tokens side by side."""
    if len(cache.shape) <= _PAGED or cache.shape[-1] * element_bytes(cache.dtype) != _BLOCK:
        return False
    return cache.shape[-3] * cache.shape[-1] == prod(tokens.shape[1:]) > cache.shape[-1]


_BLOCK = 32
"""Bytes of a block of the fractal layouts."""
