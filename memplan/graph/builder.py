"""How readers put a `Graph` together: tensors and ops are appended, storages merged, and all frozen at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from memplan.graph.model import Graph, Op, OpScope, Tensor, TensorKind

_NO_ATTRS: Mapping[str, object] = MappingProxyType({})


class Companions:
    """
    Tensors whose bytes must stay for as long as another tensor is used.

    That other tensor may at run time be any of `members`: it comes out of a branch, or is carried round a loop.
    """

    __slots__ = ("members",)

    def __init__(self, members: Iterable[int] = ()) -> None:
        self.members: list[int] = list(members)


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
        self.on_host: set[int] = set()
        self.ops: list[Op] = []
        self.notes: list[str] = []
        self._owner: list[int] = []
        self._companions: dict[int, tuple[Companions, ...]] = {}
        self._deferred: list[Callable[[], None]] = []

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
        if storage is None:
            self._owner.append(index)
        else:
            self._owner.append(self.storage(storage))
            if storage in self._companions:
                self._companions[index] = self._companions[storage]
        return index

    def alias(self, name: str, of: int) -> int:
        """Append another name for tensor `of` and return its index."""
        return self.tensor(
            name,
            self.shapes[of],
            self.dtypes[of],
            self.nbytes[of],
            self.kinds[of],
            storage=of,
            layout=self.layouts[of],
        )

    def accompany(self, tensor: int, companions: Companions) -> None:
        """Keep `companions` for as long as `tensor`, or what is made an alias of it from now on, is used."""
        self._companions[tensor] = (*self._companions.get(tensor, ()), companions)

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
        scope: OpScope | None = None,
        writes: Iterable[int] = (),
    ) -> int:
        """Append an op as the next step of the schedule and return its index; `writes` are inputs that it changes."""
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
                scope=scope,
                writes=tuple(writes),
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
        if first in self._companions:
            held = self._companions.get(second, ())
            self._companions[second] = (*held, *(item for item in self._companions[first] if item not in held))
        a, b = self.storage(first), self.storage(second)
        if a == b:
            return
        rank_a = (not self.kinds[a].persistent, a)
        rank_b = (not self.kinds[b].persistent, b)
        if rank_b < rank_a:
            a, b = b, a
        self._owner[b] = a

    def companions(self, tensor: int) -> tuple[Companions, ...]:
        """What is kept for as long as `tensor` is used."""
        return self._companions.get(tensor, ())

    def defer(self, settle: Callable[[], None]) -> None:
        """Call `settle` once all ops are known, before anything is frozen."""
        self._deferred.append(settle)

    def has_companions(self, tensor: int) -> bool:
        """Whether other tensors are kept for the sake of `tensor`."""
        return tensor in self._companions

    def amend(self, op: int, *, inputs: Iterable[int] = (), outputs: Iterable[int] = ()) -> None:
        """Let an op that is already there use more tensors; the producers of `outputs` stay who they are."""
        old = self.ops[op]
        self.ops[op] = replace(old, inputs=(*old.inputs, *inputs), outputs=(*old.outputs, *outputs))

    def reorder(self, order: Sequence[int]) -> None:
        """Run the ops in `order`, a list of their indices; those it leaves out are dropped."""
        place: dict[int, int] = {old: new for new, old in enumerate(order)}
        ops = []
        for new, old in enumerate(order):
            op = self.ops[old]
            after = op.attrs.get("after")
            attrs = op.attrs
            if isinstance(after, tuple):
                attrs = {**attrs, "after": tuple(sorted(place[step] for step in after if step in place))}
            ops.append(replace(op, index=new, attrs=attrs) if new != old or attrs is not op.attrs else op)
        self.ops = ops
        self.producers = [None if old is None else place.get(old) for old in self.producers]

    def _keep_companions(self, outputs: Sequence[int]) -> tuple[int, ...]:
        """Insert the ops that keep companions to the last use; returns the outputs with those kept to the end."""
        if not self._companions:
            return tuple(outputs)
        end = len(self.ops)
        last: dict[Companions, int] = {}

        def use(tensor: int, step: int) -> None:
            stack = [tensor]
            while stack:
                for group in self._companions.get(stack.pop(), ()):
                    if last.get(group, -1) < step:
                        last[group] = step
                        stack.extend(group.members)

        for op in self.ops:
            for tensor in (*op.inputs, *op.outputs):
                use(tensor, op.index)
        for tensor in outputs:
            use(tensor, end)
        kept: dict[int, dict[int, None]] = {}
        for group, step in last.items():
            for tensor in group.members:
                made = self.producers[tensor]
                if not self.kinds[self.storage(tensor)].persistent and (made is None or made <= step):
                    kept.setdefault(step, {})[tensor] = None
        order: list[int] = []
        for step in range(end):
            order.append(step)
            if step in kept:
                order.append(self.op("KeepAlive", "KeepAlive", tuple(kept[step]), (), launches=False))
        self.reorder(order)
        return (*outputs, *(tensor for tensor in kept.get(end, {}) if tensor not in outputs))

    def finish(self, name: str, inputs: Iterable[int], outputs: Iterable[int], *, origin: str, producer: str) -> Graph:
        """The frozen graph. Aliases take the kind of the tensor that owns their bytes."""
        outputs = tuple(outputs)
        for settle in self._deferred:
            settle()
        kept = self._keep_companions(outputs)
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
                    on_host=root in self.on_host,
                )
            )
        return Graph(
            name=name,
            ops=tuple(self.ops),
            tensors=tuple(tensors),
            inputs=tuple(inputs),
            outputs=kept,
            origin=origin,
            producer=producer,
            notes=tuple(self.notes),
        )
