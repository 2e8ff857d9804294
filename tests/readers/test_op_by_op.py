"""Where PyNative mode differs from the compiled graph: order, copies of views, what recomputed cells hand on."""

from __future__ import annotations

from dataclasses import replace

from memplan.graph import Graph, TensorKind
from memplan.graph.builder import GraphBuilder
from memplan.readers.mindspore.kept_outputs import with_kept_outputs
from memplan.readers.mindspore.op_by_op import op_by_op
from memplan.readers.mindspore.view_copies import with_view_copies


class _Step:
    """A step under construction; scopes are those of a network `net` of layers."""

    def __init__(self) -> None:
        self.builder = GraphBuilder()
        self.x = self.builder.tensor("x", (8,), "float32", 32, TensorKind.INPUT)

    def weight(self, name: str) -> int:
        return self.builder.tensor(name, (8,), "float32", 32, TensorKind.WEIGHT)

    def op(self, name: str, *inputs: int, view: bool = False, after: tuple[int, ...] = ()) -> int:
        kind = name.rpartition("/")[2].partition("-op")[0]
        made = self.builder.alias(name, inputs[0]) if view else self.builder.tensor(name, (8,), "float32", 32)
        attrs = {"after": after} if after else None
        self.builder.op(name, kind, inputs, (made,), launches=not view, attrs=attrs)
        return made

    def graph(self, *results: int) -> Graph:
        return self.builder.finish("step", (self.x,), results, origin="step", producer="MindSpore")


def names(graph: Graph) -> list[str]:
    """The ops in order."""
    return [op.name for op in graph.ops]


def test_the_way_back_follows_the_forward_pass_and_prepares_weights_when_it_needs_them() -> None:
    step = _Step()
    first, second = step.weight("first"), step.weight("second")
    y = step.op("Default/net-Net/MatMul-op0", step.x, first)
    early = step.op("Gradients/Default/net-Net/Grad_MatMul/Transpose-op0", second)
    z = step.op("Default/net-Net/MatMul-op1", y, second)
    back = step.op("Gradients/Default/net-Net/Grad_Loss/Mul-op0", z, y)
    update = step.op("Default/optimizer-Momentum/Assign-op0", second, back)
    more = step.op("Gradients/Default/net-Net/Grad_MatMul/MatMul-op0", back, early)
    graph = op_by_op(step.graph(update, more))
    assert [name.rpartition("/")[2] for name in names(graph)] == [
        "MatMul-op0", "MatMul-op1", "Mul-op0", "Transpose-op0", "MatMul-op0", "Assign-op0",
    ]  # fmt: skip
    assert [op.index for op in graph.ops] == list(range(6))
    assert all(graph.tensors[made].producer == op.index for op in graph.ops for made in op.outputs)


def recomputed_step() -> Graph:
    """A layer whose two ops run again behind a gradient, and one behind it that reads what it returns."""
    step = _Step()
    layer, tail = "Default/net-Net/layers-CellList/0-Layer", "Default/net-Net/layers-CellList/1-Layer"
    inner = step.op(f"{layer}/GeLU-op0", step.x)
    returned = step.op(f"{layer}/ReLU-op0", inner)
    last = step.op(f"{tail}/MatMul-op0", returned, step.weight("w"))
    back = step.op(f"Gradients/{tail}/Grad_MatMul/Mul-op0", last, last)
    number = len(step.builder.ops) - 1
    inner_again = step.op(f"{layer}/GeLU-op1", step.x, after=(number,))
    again = step.op(f"{layer}/ReLU-op1", inner_again)
    weight = step.op(f"Gradients/{tail}/Grad_MatMul/MatMul-op1", back, again)
    back = step.op(f"Gradients/{layer}/Grad_ReLU/ReluGrad-op0", back, again)
    back = step.op(f"Gradients/{layer}/Grad_GeLU/GeLUGrad-op0", back, inner_again)
    return step.graph(weight, back)


def test_what_a_recomputed_cell_returned_is_kept_for_who_read_it() -> None:
    graph = recomputed_step()
    kept = with_kept_outputs(graph, ["net.layers.0"])
    of = {op.name: [graph.tensors[tensor].name for tensor in op.inputs] for op in kept.ops}
    tail, layer = "Gradients/Default/net-Net/layers-CellList/1-Layer", "Default/net-Net/layers-CellList/0-Layer"
    assert of[f"{tail}/Grad_MatMul/MatMul-op1"][1] == f"{layer}/ReLU-op0"
    assert of[f"Gradients/{layer}/Grad_ReLU/ReluGrad-op0"][1] == f"{layer}/ReLU-op1"
    assert of[f"Gradients/{layer}/Grad_GeLU/GeLUGrad-op0"][1] == f"{layer}/GeLU-op1"


def test_a_recomputed_cell_runs_as_a_whole() -> None:
    graph = recomputed_step()
    order = names(op_by_op(graph, ["net.layers.0"]))
    first, second = (f"Default/net-Net/layers-CellList/0-Layer/{op}" for op in ("GeLU-op1", "ReLU-op1"))
    assert order.index(second) == order.index(first) + 1
    assert order.index(first) > order.index("Gradients/Default/net-Net/layers-CellList/1-Layer/Grad_MatMul/Mul-op0")


def test_a_part_of_a_gradient_that_reads_what_ran_again_waits_for_its_gradient() -> None:
    step = _Step()
    layer, tail = "Default/net-Net/layers-CellList/0-Layer", "Default/net-Net/layers-CellList/1-Layer"
    weight = step.weight("w")
    returned = step.op(f"{layer}/SiLU-op0", step.op(f"{layer}/Add-op0", step.x, weight))
    back = step.op(f"Gradients/{tail}/Grad_Loss/Mul-op0", step.op(f"{tail}/MatMul-op0", returned, weight))
    inner = step.op(f"{layer}/Add-op1", step.x, weight, after=(len(step.builder.ops) - 1,))
    part = step.op(f"Gradients/{layer}/Grad_SiLU/SiLUGrad-op0/Sigmoid", inner)
    of_weight = step.op(f"Gradients/{tail}/Grad_MatMul/MatMul-op1", back, returned)
    back = step.op(f"Gradients/{tail}/Grad_MatMul/MatMul-op0", back, weight)
    back = step.op(f"Gradients/{layer}/Grad_SiLU/SiLUGrad-op0", back, inner, part)
    order = [name.partition("Grad_")[2] for name in names(op_by_op(step.graph(of_weight, back), ["net.layers.0"]))]
    at = order.index("SiLU/SiLUGrad-op0/Sigmoid")
    assert at > order.index("MatMul/MatMul-op0")
    assert order[at + 1] == "SiLU/SiLUGrad-op0"


def test_an_order_that_cannot_be_is_left_as_it_is() -> None:
    graph = recomputed_step()
    tangled = replace(graph, ops=tuple(
        replace(op, attrs={"after": (7,)}) if op.name.endswith("0-Layer/ReLU-op1") else op for op in graph.ops
    ))  # fmt: skip
    found = op_by_op(tangled, ["net.layers.0"])
    assert [op.name for op in found.ops if op.type != "KeepAlive"] == names(tangled)


def test_each_kernel_that_reads_a_view_has_a_copy_which_its_gradient_keeps() -> None:
    step = _Step()
    view = step.op("Default/net-Net/Reshape-op0", step.op("Default/net-Net/Add-op0", step.x, step.x), view=True)
    q = step.op("Default/net-Net/q-Dense/MatMul-op0", view, step.weight("q"))
    k = step.op("Default/net-Net/k-Dense/MatMul-op0", view, step.weight("k"))
    dk = step.op("Gradients/Default/net-Net/q-Dense/Grad_MatMul/MatMul-op1", k, view)
    dq = step.op("Gradients/Default/net-Net/q-Dense/Grad_MatMul/MatMul-op0", q, view)
    graph = with_view_copies(step.graph(dk, dq))
    copies = [op.outputs[0] for op in graph.ops if op.type == "Contiguous"]
    assert len(copies) == 2
    by_name = {op.name: op for op in graph.ops}
    assert by_name["Default/net-Net/q-Dense/MatMul-op0"].inputs[0] == copies[0]
    assert by_name["Default/net-Net/k-Dense/MatMul-op0"].inputs[0] == copies[1]
    kept = [op.inputs[1] for op in graph.ops if op.name.startswith("Gradients/")]
    assert sorted(kept) == copies
    assert all(graph.tensors[made].producer == op.index for op in graph.ops for made in op.outputs)
    assert all(graph.tensors[copy].storage == copy for copy in copies)


def test_a_part_of_a_gradient_before_the_kernel_that_saved_a_view_reads_that_kernel_s_copy() -> None:
    step = _Step()
    view = step.op("Default/net-Net/Reshape-op0", step.op("Default/net-Net/MatMul-op0", step.x, step.x), view=True)
    part = step.op("Gradients/Default/net-Net/Grad_SiLU/SiLUGrad-op0/Sigmoid", view)
    made = step.op("Default/net-Net/SiLU-op0", view)
    back = step.op("Gradients/Default/net-Net/Grad_SiLU/SiLUGrad-op0", made, view, part)
    graph = with_view_copies(step.graph(back))
    (copy,) = [op for op in graph.ops if op.type == "Contiguous"]
    assert copy.name == "Default/net-Net/SiLU-op0/Contiguous"
    assert [copy.outputs[0] in op.inputs for op in graph.ops[-3:]] == [True, True, True]


def test_a_kernel_that_runs_again_copies_a_view_once_and_then_whether_or_not_that_is_what_it_waits_through() -> None:
    step = _Step()
    layer = "Default/net-Net/layers-CellList/0-Layer"
    view = step.op("Default/net-Net/Reshape-op0", step.op("Default/net-Net/Add-op0", step.x, step.x), view=True)
    made = step.op(f"{layer}/Add-op0", view, step.op(f"{layer}/Mul-op0", view, view))
    back = step.op("Gradients/Default/net-Net/Grad_Loss/Mul-op0", made)
    held = step.op(f"{layer}/Depend-op0", view, view=True, after=(len(step.builder.ops) - 1,))
    squared = step.op(f"{layer}/Mul-op1", held, view)
    again = step.op(f"{layer}/Add-op1", view, squared)
    back = step.op(f"Gradients/{layer}/Grad_Mul/Mul-op0", back, squared, again)
    order = names(op_by_op(with_view_copies(step.graph(back)), ["net.layers.0"]))
    behind = [name for name in order[order.index("Gradients/Default/net-Net/Grad_Loss/Mul-op0") :] if layer in name]
    assert [name.partition("0-Layer/")[2] for name in behind[:-1]] == [
        "Depend-op0", "Mul-op1/Contiguous", "Mul-op1", "Add-op1/Contiguous", "Add-op1",
    ]  # fmt: skip
