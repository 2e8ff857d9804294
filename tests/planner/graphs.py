"""Small graphs built by hand, and a strategy for random ones."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from memplan.graph import Graph, Op, Tensor, TensorKind


class Builder:
    """Builds a graph op by op; tensors are int8 vectors, so that one element is one byte."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.given: list[int] = []

    def tensor(self, size: int, kind: TensorKind = TensorKind.ACTIVATION, storage: int | None = None) -> int:
        index = len(self.tensors)
        made = kind not in (TensorKind.WEIGHT, TensorKind.INPUT, TensorKind.OPTIMIZER_STATE, TensorKind.CONSTANT)
        self.tensors.append(
            Tensor(
                index=index,
                name=f"t{index}",
                shape=(size,),
                dtype="int8",
                nbytes=size,
                kind=kind,
                storage=index if storage is None else storage,
                producer=len(self.ops) if made else None,
            )
        )
        if kind is TensorKind.INPUT:
            self.given.append(index)
        return index

    def op(
        self,
        inputs: list[int],
        outputs: list[int],
        workspace: int = 0,
        launches: bool = True,
        writes: Sequence[int] = (),
    ) -> None:
        number = len(self.ops)
        self.ops.append(
            Op(
                index=number,
                name=f"Default/op{number}",
                type="Add",
                inputs=tuple(inputs),
                outputs=tuple(outputs),
                workspace_bytes=workspace,
                launches=launches,
                writes=tuple(writes),
            )
        )

    def graph(self, outputs: list[int]) -> Graph:
        return Graph(
            name="by hand",
            ops=tuple(self.ops),
            tensors=tuple(self.tensors),
            inputs=tuple(self.given),
            outputs=tuple(outputs),
            origin="by hand",
            producer="test",
        )


def forward_and_back(layers: int, size: int) -> Graph:
    """A chain whose activations are all needed again in reverse order, as in training."""
    build = Builder()
    value = build.tensor(size, TensorKind.INPUT)
    weights = [build.tensor(size, TensorKind.WEIGHT) for _ in range(layers)]
    kept = []
    for weight in weights:
        kept.append(value)
        made = build.tensor(size)
        build.op([value, weight], [made])
        value = made
    for weight, activation in zip(reversed(weights), reversed(kept), strict=True):
        made = build.tensor(size, TensorKind.GRADIENT)
        build.op([value, weight, activation], [made])
        value = made
    return build.graph([value])


@st.composite
def graphs(draw: st.DrawFn, largest: int = 100_000, most_ops: int = 25) -> Graph:
    """Random graphs with weights, state, updates in place with and without an output, partial writes and views."""
    build = Builder()
    sizes = st.integers(min_value=0, max_value=largest)
    values = [build.tensor(draw(sizes), TensorKind.INPUT)]
    values += [build.tensor(draw(sizes), TensorKind.WEIGHT) for _ in range(draw(st.integers(0, 4)))]
    values += [build.tensor(draw(sizes), TensorKind.OPTIMIZER_STATE) for _ in range(draw(st.integers(0, 3)))]
    for _ in range(draw(st.integers(0, most_ops))):
        inputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))
        shape = draw(st.sampled_from(["new", "new", "new", "view", "in place", "part", "silent", "silent"]))
        base = build.tensors[inputs[0]]
        writes: list[int] = []
        if shape == "new":
            outputs = [build.tensor(draw(sizes)) for _ in range(draw(st.integers(1, 2)))]
        elif shape == "silent":
            outputs = [build.tensor(draw(sizes)) for _ in range(draw(st.integers(0, 1)))]
            writes = inputs[:1]
        else:
            size = base.nbytes if shape != "part" else draw(st.integers(0, base.nbytes))
            outputs = [build.tensor(size, storage=base.storage)]
        read = inputs[1:] if shape == "part" else inputs
        build.op(read, outputs, workspace=draw(st.sampled_from([0, 0, 5000])), launches=shape != "view", writes=writes)
        values += outputs
    return build.graph(draw(st.lists(st.sampled_from(values), max_size=3, unique=True)))
