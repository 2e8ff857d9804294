"""How readers put a `Graph` together: tensors and ops are appended, storages merged, and all frozen at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from memplan.graph.model import Graph, Op, Tensor, TensorKind

_NO_ATTRS: Mapping[str, object] = MappingProxyType({})


class GraphBuilder:
    """
    A graph under construction.

    Tensors and ops are named by the index they were given. `share` makes two tensors occupy the same bytes; which of
    them owns the storage is settled in `finish`, so that views of views and merges of branches need no care.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.shapes: list[tuple[int, ...]] = []
        self.dtypes: list[str] = []
        self.nbytes: list[int] = []
        self.kinds: list[TensorKind] = []
        self.layouts: list[str] = []
        self.producers: list[int | None] = []
        self.ops: list[Op] = []
        self.notes: list[str] = []
        self._owner: list[int] = []

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        nbytes: int,
        kind: TensorKind = TensorKind.ACTIVATION,
        *,
        storage: int | None = None,
        layout: str = "ND",
    ) -> int:
        """Append a tensor and return its index; with `storage` it occupies that tensor's bytes."""
        index = len(self.names)
        self.names.append(name)
        self.shapes.append(shape)
        self.dtypes.append(dtype)
        self.nbytes.append(nbytes)
        self.kinds.append(kind)
        self.layouts.append(layout)
        self.producers.append(None)
        self._owner.append(index if storage is None else self.storage(storage))
        return index

    def op(
        self,
        name: str,
        type_: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        *,
        stream: int = 0,
        workspace_bytes: int = 0,
        launches: bool = True,
        attrs: Mapping[str, object] | None = None,
        source: str | None = None,
    ) -> int:
        """Append an op as the next step of the schedule and return its index."""
        index = len(self.ops)
        for tensor in outputs:
            if self.producers[tensor] is None:
                self.producers[tensor] = index
        self.ops.append(
            Op(
                index=index,
                name=name,
                type=type_,
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                stream=stream,
                workspace_bytes=workspace_bytes,
                launches=launches,
                attrs=attrs or _NO_ATTRS,
                source=source,
            )
        )
        return index

    def storage(self, tensor: int) -> int:
        """The tensor that currently owns the bytes of `tensor`."""
        owner = self._owner
        root = tensor
        while owner[root] != root:
            root = owner[root]
        while owner[tensor] != root:
            owner[tensor], tensor = root, owner[tensor]
        return root

    def share(self, first: int, second: int) -> None:
        """
        Let both tensors occupy the same bytes.

        What exists before the graph starts owns what is made by it; otherwise the earlier tensor owns the later one.
        """
        a, b = self.storage(first), self.storage(second)
        if a == b:
            return
        rank_a = (not self.kinds[a].persistent, a)
        rank_b = (not self.kinds[b].persistent, b)
        if rank_b < rank_a:
            a, b = b, a
        self._owner[b] = a

    def finish(self, name: str, inputs: Iterable[int], outputs: Iterable[int], *, origin: str, producer: str) -> Graph:
        """The frozen graph. Aliases take the kind of the tensor that owns their bytes."""
        tensors = []
        for index, label in enumerate(self.names):
            root = self.storage(index)
            tensors.append(
                Tensor(
                    index=index,
                    name=label,
                    shape=self.shapes[index],
                    dtype=self.dtypes[index],
                    nbytes=self.nbytes[index],
                    kind=self.kinds[root],
                    storage=root,
                    producer=self.producers[index],
                    layout=self.layouts[index],
                )
            )
        return Graph(
            name=name,
            ops=tuple(self.ops),
            tensors=tuple(tensors),
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            origin=origin,
            producer=producer,
            notes=tuple(self.notes),
        )
