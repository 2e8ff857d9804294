"""
One kernel as the cost model sees it: an op type, its operands and its attributes, apart from any graph or profile.

The planner makes them from ops of a graph, calibration and comparison from rows of a profile, the command line from
options; equal kernels are equal objects, so that each is costed once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite, prod
from typing import Any

from memplan.core.resources import table
from memplan.graph import Graph, Op, Tensor
from memplan.graph.model import DTYPE_BITS
from memplan.graph.op_names import table_names
from memplan.schema import Plan, PlannedAttribute, PlannedKernel, PlannedOperand

Attribute = str | int | float | bool | None
CONVOLUTIONS = (
    "convolution", "convolution_input_gradient", "convolution_filter_gradient", "transposed_convolution",
)  # fmt: skip
"""Kinds whose kernels unfold images into products."""


@dataclass(frozen=True, slots=True)
class Operand:
    """
    One input or output: `shape` as the op defines it, except that blocked layouts may give their storage shape.

    `layout` is `ND`, `NZ` (blocks of 16 rows and 32 bytes of columns), `NC1HWC0` (blocks of channels, 32 bytes of them
    innermost) or `FRACTAL_Z` (filters in blocks of both).
    `stored` is the bytes it occupies where they are known to differ from the dense ones, else -1.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str = "ND"
    stored: int = -1

    @property
    def count(self) -> int:
        """Elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes as stored; dense where nothing else is known."""
        return self.stored if self.stored >= 0 else (self.count * DTYPE_BITS.get(self.dtype, 8) + 7) // 8


def logical_row(operand: Operand) -> int:
    """
    Elements that a norm or a sum goes along: the last dimension; in blocked layouts that of the matrix, and of images
    all that one block of channels has of an image, since those are reduced over pixels.
    """
    shape = operand.shape
    if operand.layout == "NZ" and len(shape) >= 4:
        return max(shape[-4] * shape[-1], 1)
    if operand.layout == "NC1HWC0" and len(shape) == 5:
        return max(shape[2] * shape[3] * shape[4], 1)
    return max(shape[-1], 1)


@dataclass(frozen=True, slots=True)
class Kernel:
    """
    One launch: `type` as MindSpore, CANN or a profile names it, operands in the order of the op's definition.

    An optional input that is absent is `None`. `attributes` are sorted pairs, so that kernels can be keys.
    `block_count` is the number of cores it was seen to use, 0 where that is for the model to say.
    """

    type: str
    inputs: tuple[Operand | None, ...]
    outputs: tuple[Operand, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()
    block_count: int = 0

    def attribute(self, name: str, default: Attribute = None) -> Attribute:
        """The attribute called `name`."""
        return next((value for key, value in self.attributes if key == name), default)

    @property
    def operands(self) -> tuple[Operand, ...]:
        """Inputs that are present, then outputs."""
        return (*self.present, *self.outputs)

    @property
    def present(self) -> tuple[Operand, ...]:
        """Inputs that are present."""
        return tuple(operand for operand in self.inputs if operand is not None)

    @property
    def read_bytes(self) -> int:
        """Bytes of all inputs, each once."""
        return sum(operand.nbytes for operand in self.present)

    @property
    def written_bytes(self) -> int:
        """Bytes of all outputs, each once."""
        return sum(operand.nbytes for operand in self.outputs)


@dataclass(frozen=True, slots=True)
class OpClass:
    """
    What an op type does: `kind` picks the formula, `rule` is the class's name in the table.

    `passes` counts plain vector instructions per element of the largest operand, `transcendentals` slow ones; `widens`
    where halves are computed as float32.
    """

    kind: str
    passes: float = 1.0
    transcendentals: float = 0.0
    rule: str = ""
    widens: bool = False


def _table() -> Mapping[str, Any]:
    return table("memplan.cost", "kernels.json")


@cache
def _classes(generation: str) -> Mapping[str, OpClass]:
    """Classes by type, with those that kernels of `generation` have of their own."""
    found = {}
    own = _table()["generations"].get(generation, {"classes": {}})["classes"]
    for name, entry in (*_table()["classes"].items(), *own.items()):
        rule = OpClass(
            kind=entry["kind"],
            passes=entry.get("passes", 0.0 if entry["kind"] != "vector" else 1.0),
            transcendentals=entry.get("transcendentals", 0.0),
            rule=name,
            widens=entry.get("widens", entry["kind"] == "rows"),
        )
        for op_type in entry["types"]:
            found[op_type.casefold()] = rule
    return found


@cache
def takes_turns(op_type: str, generation: str = "") -> bool:
    """
    Whether kernels of `op_type` read a piece, work on it and write it before the next one: no buffer is doubled, on any
    generation or in the kernels of `generation`.
    """
    entry = _table()["takes_turns"]
    types = (*entry["types"], *entry["generations"].get(generation, ()))
    return op_type.casefold() in {name.casefold() for name in types}


@cache
def takes_all_cores(op_type: str) -> bool:
    """Whether kernels of `op_type` start on every vector core however little there is to do."""
    return op_type in _table()["all_cores"]["types"]


@cache
def index_rows(op_type: str) -> int:
    """Rows that each core gets a multiple of where `op_type` finds where in a row something is, 0 for other types."""
    rule = _table()["index_rows"]
    return int(rule["rows_a_core"]) if op_type in rule["types"] else 0


@cache
def _goes_over_pixels(op_type: str) -> bool:
    return op_type in _table()["image_rows"]["types"]


_BEHIND_CHANNELS = 2


def reduced_row(op_type: str, operand: Operand) -> int:
    """`logical_row` of `operand` for kernels of `op_type`: norms of images go along the pixels of a channel."""
    if operand.layout == "ND" and len(operand.shape) > _BEHIND_CHANNELS and _goes_over_pixels(op_type):
        return max(prod(operand.shape[_BEHIND_CHANNELS:]), 1)
    return logical_row(operand)


@cache
def row_steps(op_type: str) -> int:
    """Steps of each row that wait for each other where `op_type` takes rows one by one to where indices say, else 0."""
    return int(_table()["rows_in_turn"]["types"].get(op_type, 0))


def rows_overlap(op_type: str, row: int, dtype: str) -> bool:
    """Whether kernels of `op_type` read the next rows while they work on those of `row` elements of `dtype`."""
    return any(
        op_type in rule["types"] and row <= rule["up_to_elements"] and dtype in rule.get("dtypes", (dtype,))
        for rule in _table()["rows_overlap"]["rules"]
    )


def reads_rows_behind_sum(op_type: str) -> bool:
    """Whether kernels of `op_type` that work on one row at a time read the next one as soon as a row is summed up."""
    return op_type in _table()["next_row_behind_sum"]["types"]


def one_row_at_a_time(op_type: str, row: int, family: str) -> bool:
    """Whether kernels of `op_type` work on rows of `row` elements one at a time on chips of `family`."""
    return any(
        op_type in rule["types"] and row > rule["above_elements"] and family in rule.get("families", (family,))
        for rule in _table()["one_row_at_a_time"]["rules"]
    )


_UNKNOWN = OpClass(kind="vector", passes=1.0, rule="unknown")


@cache
def op_class(op_type: str, generation: str = "") -> OpClass:
    """
    The class of `op_type`, by the instructions of kernels of `generation` (`npu_arch`) where those are known.

    Version suffixes (`V2`, `D`, `Ext`) are dropped where the full name is not listed.

    A kernel that graph engines fused (`FusionOp_Conv2D_ReLU`) has the class of its heaviest part, with the instructions
    of the others behind it. A type that the table lacks is taken as one vector instruction per element, with the rule
    `unknown`.
    """
    classes = _classes(generation)
    for candidate in table_names(op_type):
        if candidate in classes:
            return classes[candidate]
    if is_fused(op_type):
        parts = [op_class(part, generation) for part in op_type.removeprefix(_FUSED).split("_") if part]
        if parts:
            return _joined(parts)
    return _UNKNOWN


def is_fused(op_type: str) -> bool:
    """Whether a graph engine made one kernel of several."""
    return op_type.startswith(_FUSED)


_FUSED = "FusionOp_"
_WEIGHT = ("attention_gradient", "attention", "convolution_filter_gradient", "convolution_input_gradient",
           "transposed_convolution", "convolution", "grouped_matmul", "recurrent", "einsum", "chunk_products", "matmul",
           "rows", "reduction", "pooling", "optimizer", "gather", "transpose", "slice", "vector", "fill")  # fmt: skip
"""Kinds of formulas, the one that decides a fused kernel's time first."""


def _joined(parts: Sequence[OpClass]) -> OpClass:
    """One kernel of `parts`: operands pass through memory once, every part's instructions are carried out."""
    order = {kind: place for place, kind in enumerate(_WEIGHT)}
    heaviest = min(parts, key=lambda part: order.get(part.kind, len(order)))
    return replace(
        heaviest,
        passes=sum(part.passes for part in parts),
        transcendentals=sum(part.transcendentals for part in parts),
        widens=any(part.widens for part in parts),
    )


@cache
def _cache_writes() -> frozenset[str]:
    return frozenset(name.casefold() for name in _table()["cache_writes"]["types"])


@cache
def writes_cache(op_type: str) -> bool:
    """Whether kernels of `op_type` write tokens into caches of pages."""
    return any(name in _cache_writes() for name in table_names(op_type))


def of_tokens_alone(kernel: Kernel) -> Kernel:
    """
    `kernel` with what its tokens touch of caches that it writes and of tables of rotary angles, others as they are.

    A cache of pages is an operand like any other, and where a profile gives results it is one again, but only what the
    tokens have is moved: what comes first. Of a table of every position a token reads one row.
    """
    if op_class(kernel.type).rule == "rotary":
        kernel = _with_rows_of_tokens(kernel)
    if not kernel.present or not writes_cache(kernel.type):
        return kernel
    tokens = kernel.present[0].count
    inputs = tuple(each for each in kernel.present if not _is_cache(each, tokens))
    if len(inputs) == len(kernel.present):
        return kernel
    others = tuple(each for each in kernel.outputs if not _is_cache(each, tokens))
    written = tuple(each for each in inputs if each.count == tokens)
    return replace(kernel, inputs=inputs, outputs=(*others, *written))


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


def kernel_of_op(op: Op, graph: Graph) -> Kernel:
    """The kernel that `op` launches, from the tensors of `graph`."""
    return Kernel(
        type=op.type,
        inputs=tuple(_operand(graph.tensors[index]) for index in op.inputs),
        outputs=tuple(_operand(graph.tensors[index]) for index in op.outputs),
        attributes=_attributes(op.attrs),
    )


def _operand(tensor: Tensor) -> Operand:
    return Operand(tensor.shape, tensor.dtype, tensor.layout, tensor.nbytes)


_IDENTITY = frozenset({"listed", "unique_id", "forward_id", "forward_name", "recompute_id"})
"""Attributes that tell one op from its equals and say nothing of its work."""


def _attributes(attributes: Mapping[str, object]) -> tuple[tuple[str, Attribute], ...]:
    return tuple(
        sorted(
            (key, value)
            for key, value in attributes.items()
            if isinstance(value, (str, int, float, bool)) and key not in _IDENTITY
        )
    )


_LARGEST_INT, _LONGEST_TEXT = 2**63, 256


def planned_kernel(kernel: Kernel) -> PlannedKernel:
    """`kernel` as a plan records it, without attributes that no plan file can hold or that are long texts."""
    return PlannedKernel(
        type=kernel.type,
        inputs=tuple(None if operand is None else _planned(operand) for operand in kernel.inputs),
        outputs=tuple(_planned(operand) for operand in kernel.outputs),
        attributes=tuple(
            PlannedAttribute(name, value)
            for name, value in kernel.attributes
            if value is not None
            and not (isinstance(value, str) and len(value) > _LONGEST_TEXT)
            and not (isinstance(value, int) and not -_LARGEST_INT <= value < _LARGEST_INT)
            and not (isinstance(value, float) and not isfinite(value))
        ),
    )


def _planned(operand: Operand) -> PlannedOperand:
    return PlannedOperand(operand.shape, operand.dtype, operand.layout, operand.nbytes)


def kernel_of_plan(plan: Plan, op: int) -> Kernel | None:
    """The kernel that op `op` of `plan` launches, `None` where it launches none or the plan's file doesn't say."""
    index = plan.ops[op].kernel
    if index is None:
        return None
    record = plan.kernels[index]
    return Kernel(
        type=record.type,
        inputs=tuple(None if operand is None else _of_plan(operand) for operand in record.inputs),
        outputs=tuple(_of_plan(operand) for operand in record.outputs),
        attributes=tuple((attribute.name, attribute.value) for attribute in record.attributes),
    )


def _of_plan(operand: PlannedOperand) -> Operand:
    return Operand(operand.shape, operand.dtype, operand.layout, operand.nbytes)


def kernel_of_row(
    op_type: str,
    input_shapes: str,
    input_dtypes: str,
    output_shapes: str,
    output_dtypes: str,
    *,
    input_formats: str = "",
    output_formats: str = "",
    block_count: int = 0,
    core: str = "",
) -> Kernel:
    """
    The kernel of one row of a profile, whose shapes are written `4096,1024;1024,2048` and dtypes `DT_BF16;FLOAT`.

    An empty shape with a dtype is a scalar, or an optional input left out where a whole tensor would be expected;
    both move next to nothing. `core` (`AI_CPU`, `DSA_SQE`, ...) is kept as an attribute.
    """
    inputs = _operands(input_shapes, input_dtypes, input_formats)
    outputs = _operands(output_shapes, output_dtypes, output_formats)
    return Kernel(
        type=op_type,
        inputs=tuple(inputs),
        outputs=tuple(operand for operand in outputs if operand is not None),
        attributes=(("core", core),) if core else (),
        block_count=max(block_count, 0),
    )


def _operands(shapes: str, dtypes: str, formats: str) -> list[Operand | None]:
    shapes, dtypes = shapes.strip().strip('"'), dtypes.strip().strip('"')
    if shapes == "N/A" or dtypes in ("N/A", ""):
        return []
    names = _table()["dtypes"]
    layouts = formats.strip().strip('"').split(";")
    found: list[Operand | None] = []
    types = dtypes.split(";")
    for index, text in enumerate(shapes.split(";")):
        dtype = names.get(types[index].strip() if index < len(types) else "", "")
        shape = _shape(text)
        if shape is None or not dtype:
            found.append(None)
            continue
        layout = _layout(layouts[index]) if index < len(layouts) else "ND"
        found.append(Operand(_stored_shape(shape, layout), dtype, layout))
    return found


def _stored_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """
    The shape in GM: profiles print the mask of a pooling's maxima, which is in blocks of channels, with the channels
    themselves in front and a dimension twice (`N,C,taps,taps,rows,16`).
    """
    if layout == "NC1HWC0" and len(shape) == _MASK_DIMS and shape[2] == shape[3] and shape[5]:
        return shape[0], -(-shape[1] // shape[5]), *shape[3:]
    return shape


_MASK_DIMS = 6


def _layout(text: str) -> str:
    """The layout that a profile's format means; `NC1HWC0:1` says in how many groups its channels are."""
    name = text.split(":")[0].strip().upper()
    return "NZ" if "NZ" in name else name if name in ("NC1HWC0", "FRACTAL_Z") else "ND"


def _shape(text: str) -> tuple[int, ...] | None:
    """Dimensions of `4096,1024`; `()` for an empty text, `None` for anything else or a negative size."""
    try:
        shape = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        return None
    return shape if all(0 <= dim < 2**40 for dim in shape) else None
