"""The graph of what was recorded of a PyTorch program: sums of autograd in place, scratch, what outlives its use."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from memplan.core.progress import Progress
from memplan.graph.builder import GraphBuilder
from memplan.graph.model import DTYPE_BITS, Graph, TensorKind, dense_bytes
from memplan.readers.mindir.op_table import Target
from memplan.readers.pytorch.aten import aten_table, cpu_workspace, kept_bytes
from memplan.readers.pytorch.op_recorder import ADDED_UP, Recorded

WAY_BACK = "Gradients/"
"""Begins the names of ops that autograd's engine runs, as MindSpore's compiler has it."""
_BYTES = "uint8"
"""Of storages of which only their size is known; of what has elements of one byte, too."""
_OPAQUE = frozenset({"mkldnn_rnn_layer", "mkldnn_rnn_layer_backward", "_transformer_encoder_layer_fwd"})
"""Whole layers that are one op to PyTorch and many to the memory."""


def recorded_graph(record: Any, name: str, target: Target, progress: Progress) -> Graph:
    """The recorded events as a graph: an op for each, and one that keeps a storage where it outlives its last use."""
    builder = GraphBuilder()
    base: dict[int, int] = {}
    for number, (label, kind, shape, dtype) in record.before.items():
        base[number] = builder.tensor(label, shape, dtype, record.nbytes[number], kind)
    gone = [number for number in record.passing if number not in base]
    for number in gone:
        base[number] = builder.tensor(f"gradient{number}", (record.nbytes[number],), _BYTES, record.nbytes[number])
    if gone:
        builder.op("gradients of the step before", "KeepAlive", (), [base[number] for number in gone], launches=False)
    used: dict[int, int] = {}
    counts: dict[str, int] = {}
    _add_in_place(record.events, base)
    for done, event in enumerate(record.events):
        if done % 1024 == 0:
            progress(done, len(record.events), "ops recorded")
        if event.name:
            touched = _append(builder, record, base, event, counts, target)
            used.update(dict.fromkeys(touched, len(builder.ops) - 1))
            continue
        tensor = base.get(event.inputs[0][0]) if event.inputs else None
        if tensor is None or builder.kinds[tensor].persistent:
            continue
        if used.get(tensor, -1) < len(builder.ops) - 1:
            builder.op("KeepAlive", "KeepAlive", (tensor,), (), launches=False)
    fused = sorted({event.name for event in record.events} & _OPAQUE)
    if fused:
        builder.notes.append(
            f"{', '.join(fused)}: each layer of these is one kernel of PyTorch's CPU build, whose scratch is not known "
            "and not planned"
        )
    builder.notes.extend(record.host.notes())
    inputs = [base[number] for number, (_, kind, _, _) in record.before.items() if kind is TensorKind.INPUT]
    outputs = [base[number] for number in dict.fromkeys(record.kept) if number in base]
    return builder.finish(name, inputs, outputs, origin=name, producer="PyTorch")


def _add_in_place(events: list[Recorded], held: Mapping[int, int]) -> None:
    """
    Let each sum of autograd be written over an operand that is let go right behind it.

    That is what autograd does when nobody watches; `held` existed before and is never written over.
    """
    stands_for: dict[int, int] = {}

    def now(number: int) -> int:
        while number in stands_for:
            number = stands_for[number]
        return number

    for place, event in enumerate(events):
        if event.name == ADDED_UP:
            event.name = "add"
            freed = []
            for later in events[place + 1 :]:
                if later.name:
                    break
                freed.append(later)
            for later in freed:
                (number, _), *_ = later.inputs
                alike = any(number == used and shape == event.outputs[0][1] for used, shape in event.inputs)
                if alike and number not in held:
                    stands_for[event.outputs[0][0]] = number
                    later.inputs = ()  # its bytes go on as those of the sum
                    event.name = "add_"
                    break
        event.inputs = tuple((now(number), shape) for number, shape in event.inputs)
        event.outputs = tuple((now(number), shape, dtype) for number, shape, dtype in event.outputs)


def _append(
    builder: GraphBuilder, record: Any, base: dict[int, int], event: Recorded, counts: dict[str, int], target: Target
) -> list[int]:
    """Append the op of `event`; returns the tensors that own the bytes it touches."""
    used = [base[number] for number, _ in event.inputs]
    kind = aten_table().op_type(event.name)
    counts[kind] = counts.get(kind, -1) + 1
    label, outputs, fresh = f"{WAY_BACK * event.on_way_back}{kind}-op{counts[kind]}", [], False
    element = DTYPE_BITS[event.outputs[0][2]] // 8 if event.outputs else 4
    kept = kept_bytes(event.name, event.inputs, event.attrs, element) if target is Target.CPU else 0
    inputs = [_part_of(builder, label, tensor, shape) for tensor, (_, shape) in zip(used, event.inputs, strict=True)]
    for number, shape, dtype in event.outputs:
        if number in base:
            outputs.append(_part_of(builder, label, base[number], shape, renamed=True))
            continue
        base[number] = builder.tensor(label, shape, dtype, max(record.nbytes[number], kept))
        outputs.append(base[number])
        fresh = True
    launches = fresh or event.name.endswith("_") or not event.outputs
    stored = [record.nbytes[number] for number, _ in event.inputs]
    sizes = [record.nbytes[number] for number, _, _ in event.outputs]
    made = [shape for _, shape, _ in event.outputs]
    workspace = cpu_workspace(event.name, event.inputs, sizes, event.attrs, stored, made, record.threads, element)
    builder.op(
        label, kind, inputs, outputs, launches=launches, attrs=event.attrs,
        workspace_bytes=workspace if target is Target.CPU else 0,
    )  # fmt: skip
    return [*used, *(base[number] for number, _, _ in event.outputs)]


def _part_of(builder: GraphBuilder, label: str, whole: int, shape: tuple[int, ...], *, renamed: bool = False) -> int:
    """
    Tensor `whole`, or the part of it that an op works on, where a view has fewer elements than what it is a view of.

    With `renamed` it is another name of the same bytes in any case. A view of as many or more elements, as expanded
    ones have, goes through the same bytes.
    """
    if prod(shape) >= prod(builder.shapes[whole]) or builder.dtypes[whole] == _BYTES:
        return builder.alias(label, whole) if renamed else whole
    dtype = builder.dtypes[whole]
    return builder.tensor(label, shape, dtype, dense_bytes(shape, dtype), builder.kinds[whole], storage=whole)
