"""The storages of a graph as a plan records them."""

from __future__ import annotations

from memplan.graph import Graph, Lifetime, TensorKind, lifetimes
from memplan.schema.plan import PlannedTensor


def planned_tensors(graph: Graph) -> tuple[PlannedTensor, ...]:
    """Everything that needs bytes when `graph` runs in order: its storages by index, then the scratch of its ops."""
    scratch = [op for op in graph.ops if op.workspace_bytes]
    return (
        *(planned_tensor(graph, span) for span in lifetimes(graph)),
        *(
            PlannedTensor(
                index=len(graph.tensors) + number,
                name=f"{op.name}:workspace",
                shape=(op.workspace_bytes,),
                dtype="uint8",
                layout="ND",
                nbytes=op.workspace_bytes,
                kind=TensorKind.WORKSPACE.value,
                persistent=False,
                start=op.index,
                end=op.index + 1,
                producer=op.index,
                uses=(op.index,),
            )
            for number, op in enumerate(scratch)
        ),
    )


def planned_tensor(graph: Graph, span: Lifetime) -> PlannedTensor:
    """The storage of `span`."""
    tensor = graph.tensors[span.tensor]
    return PlannedTensor(
        index=tensor.index,
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        layout=tensor.layout,
        nbytes=span.nbytes,
        kind=tensor.kind.value,
        persistent=tensor.kind.persistent,
        start=span.start,
        end=span.end,
        producer=tensor.producer,
        uses=span.uses,
    )
