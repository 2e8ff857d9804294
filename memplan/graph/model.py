"""
The compiled graph: ops in execution order and the tensors between them.

Tensors and ops name each other by index into `Graph.tensors` and `Graph.ops`; nothing here is ever changed after a
reader built it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class TensorKind(str, Enum):
    """What a tensor's bytes are for."""

    WEIGHT = "weight"
    OPTIMIZER_STATE = "optimizer_state"
    GRADIENT = "gradient"
    ACTIVATION = "activation"
    INPUT = "input"
    CONSTANT = "constant"
    WORKSPACE = "workspace"

    @property
    def persistent(self) -> bool:
        """Whether the bytes exist before the first op and after the last one."""
        return self in _PERSISTENT


_PERSISTENT = frozenset({TensorKind.WEIGHT, TensorKind.OPTIMIZER_STATE, TensorKind.INPUT, TensorKind.CONSTANT})

DTYPE_BITS: Mapping[str, int] = {
    "bool": 8, "int2": 2, "int4": 4, "int8": 8, "int16": 16, "int32": 32, "int64": 64,
    "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64,
    "float4_e2m1": 4, "float6_e2m3": 6, "float6_e3m2": 6,
    "float8_e4m3": 8, "float8_e5m2": 8, "float8_e8m0": 8, "hifloat8": 8,
    "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64, "complex64": 64, "complex128": 128,
}  # fmt: skip
"""Bits of one element by the dtype names used throughout memplan."""


def dense_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of a dense ND tensor; `()` is one element. Raises `KeyError` for an unknown dtype."""
    count = 1
    for dim in shape:
        count *= dim
    return (count * DTYPE_BITS[dtype] + 7) // 8


@dataclass(frozen=True, slots=True)
class Tensor:
    """
    One value of the graph.

    `nbytes` is the size as stored (layout padding included, allocator rounding not). `storage` is the index of the
    tensor whose bytes this one occupies: its own index, or that of the tensor it is a view of or is written over.
    `producer` is the op that makes it, `None` for what exists before the graph starts. `on_host` marks bytes that the
    graph itself keeps in host memory (offloaded activations).
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int
    kind: TensorKind
    storage: int
    producer: int | None = None
    layout: str = "ND"
    on_host: bool = False


@dataclass(frozen=True, slots=True)
class OpScope:
    """
    What of a model's step an op is.

    `phase` is `forward`, `recompute`, `backward`, `embedding`, `loss`, `grad_sync`, `optimizer` or `pipeline` of a
    training step, `prefill` or `decode` of a served one; `part` is the op within its layer (`o_proj`, `o_proj.dw`).
    `micro_batch` and `layer` are `None` for what belongs to all or none of them.
    """

    phase: str
    part: str
    micro_batch: int | None = None
    layer: int | None = None


@dataclass(frozen=True, slots=True)
class Op:
    """
    One node, run once, at position `index` of the schedule.

    `name` is the full scope name as profilers print it. `workspace_bytes` is scratch alive only while the op runs.
    `launches` is false for nodes that cost no kernel (views, `Depend`, tuple plumbing). `attrs` holds what the cost
    model and the views need (for example `transpose_a`), `after` the ops that must have run before although no data
    passes, `listed` the op's place in the file; `source` is the line of user code as `file:line`. `scope` is known of
    graphs that memplan makes from a model's config. `writes` are those of `inputs` that the op changes in place though
    none of its outputs says so: optimiser state, running statistics, a KV cache (`memplan.graph.access`). `repeats` is
    the earlier op that this one runs once more, on the same inputs, to make anew what was given up
    (`memplan.graph.repeats`).
    """

    index: int
    name: str
    type: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    stream: int = 0
    workspace_bytes: int = 0
    launches: bool = True
    attrs: Mapping[str, object] = field(default_factory=dict)
    source: str | None = None
    scope: OpScope | None = None
    writes: tuple[int, ...] = ()
    repeats: int | None = None


@dataclass(frozen=True, slots=True)
class Graph:
    """
    Ops in execution order and all their tensors.

    `inputs` and `outputs` are tensor indices. `origin` is the file (or class) it was read from, `producer` the tool
    that wrote it. `notes` lists what the reader assumed, repaired or could not know.
    """

    name: str
    ops: tuple[Op, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    origin: str
    producer: str
    notes: tuple[str, ...] = ()
