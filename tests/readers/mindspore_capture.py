"""
Captures cells in a process with MindSpore and prints what the tests compare, as JSON.

Started as a process of its own by the tests, because MindSpore keeps its configuration per process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def run(folder: Path) -> dict[str, Any]:
    """Live curves of captured and exported graphs, of extended and full ones, and what misuse answers."""
    import mindspore as ms
    import numpy as np

    from memplan.graph import live_curve
    from memplan.models.samples.decoder import DecoderShape, decoder, train_step
    from memplan.models.samples.mindir_export import SAMPLES, export_sample
    from memplan.readers import read_graph
    from memplan.readers.mindspore.cell import capture

    ms.set_device("CPU")
    found: dict[str, Any] = {"captured": {}, "extended": {}, "refused": {}, "op_by_op": op_by_op()}
    ms.set_context(mode=ms.GRAPH_MODE)
    for name in ("llama_train", "control_flow", "llama_lazy_inline"):
        sample = SAMPLES[name]()
        live = capture(sample.cell, *sample.inputs)
        file = read_graph(export_sample(name, folder))
        found["captured"][name] = [live_curve(live).tolist(), live_curve(file).tolist()]
    for training in (False, True):
        graphs = {}
        for depth in (4, 6):
            shape = DecoderShape(layers=depth)
            tokens = ms.Tensor(np.zeros((shape.batch, shape.sequence), dtype=np.int32))
            cell: Any = decoder(shape)
            inputs: tuple[Any, ...] = (tokens,)
            if training:
                cell, inputs = train_step(cell, shape.vocabulary), (tokens, tokens)
            cell.set_train(training)
            graphs[depth] = capture(cell, *inputs, layers=6)
            if depth == 4 and not training:
                still = cell(*inputs)
                found["still_runs"] = len(still.shape) == 3
        found["extended"]["train" if training else "infer"] = [live_curve(graphs[k]).tolist() for k in (4, 6)]
    found["extended"] |= {name: [said(few), said(full)] for name, (few, full) in stacks_of_blocks().items()}
    for name, cell, inputs, layers in (
        ("no cell", object(), (), None),
        ("numpy", SAMPLES["mlp"]().cell, (np.zeros((2, 64), np.float32),), None),
        ("open", SAMPLES["mlp"]().cell, (ms.Tensor(shape=(None, 64), dtype=ms.float32),), None),
        ("wrong inputs", SAMPLES["mlp"]().cell, (ms.Tensor(np.zeros((2, 3), np.float32)),), None),
        ("no source", typed_at_a_prompt(), (ms.Tensor(np.zeros((2, 3), np.float32)),), None),
        ("few layers", SAMPLES["llama_infer"]().cell, SAMPLES["llama_infer"]().inputs, 61),
    ):
        found["refused"][name] = refusal(cell, inputs, layers)
    return found


def typed_at_a_prompt() -> Any:
    """A cell whose source is in no file."""
    from mindspore import nn

    names: dict[str, Any] = {"nn": nn, "__name__": "__main__"}
    text = "class Typed(nn.Cell):\n    def construct(self, x):\n        return x + x\n"
    exec(compile(text, "<stdin>", "exec"), names)
    return names["Typed"]()


def said(graph: Any) -> list[Any]:
    """What must be equal of two graphs: what runs in which order, on how many bytes."""
    from memplan.graph import live_curve

    return [[op.type for op in graph.ops], live_curve(graph).tolist(), len(graph.outputs)]


def stacks_of_blocks() -> dict[str, tuple[Any, Any]]:
    """Four blocks extended to seven, and seven, trained by several optimisers; and handing on every block's result."""
    import mindspore as ms
    import numpy as np
    from mindspore import nn, ops

    from memplan.readers.mindspore.cell import capture

    class Block(nn.Cell):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm, self.up, self.down = (
                nn.LayerNorm((width,)),
                nn.Dense(width, 2 * width),
                nn.Dense(2 * width, width),
            )

        def construct(self, x: Any) -> Any:
            return x + self.down(ops.gelu(self.up(self.norm(x))))

    class Stack(nn.Cell):
        def __init__(self, blocks: int, gathers: bool) -> None:
            super().__init__()
            self.blocks, self.head = nn.CellList([Block(16) for _ in range(blocks)]), nn.Dense(16, 16)
            self.gathers = gathers

        def construct(self, x: Any) -> Any:
            results: tuple[Any, ...] = ()
            for block in self.blocks:
                x = block(x)
                results = (*results, x)
            x = self.head(x)
            return (x, *results) if self.gathers else x

    x = ms.Tensor(np.zeros((8, 16), np.float32))
    optimisers: dict[str, Callable[[Any], Any]] = {
        "SGD": lambda weights: nn.SGD(weights, 0.1, momentum=0.9), "Momentum": lambda w: nn.Momentum(w, 0.1, 0.9),
        "RMSProp": lambda weights: nn.RMSProp(weights, 0.1), "Lamb": lambda weights: nn.Lamb(weights, 0.1),
    }  # fmt: skip
    found = {}
    for name, optimiser in optimisers.items():
        steps = []
        for blocks in (4, 7):
            loss = nn.WithLossCell(Stack(blocks, gathers=False), nn.MSELoss())
            step = nn.TrainOneStepCell(loss, optimiser(loss.trainable_params()))
            steps.append(capture(step, x, x, layers=7))
        found[name] = steps[0], steps[1]
    steps = []
    for blocks in (5, 7):
        loss = nn.WithLossCell(Stack(blocks, gathers=False), nn.MSELoss())
        steps.append(capture(clipped_step(loss, nn.Momentum(loss.trainable_params(), 0.1, 0.9)), x, x, layers=7))
    found["clipped by the norm of all gradients"] = steps[0], steps[1]
    few, full = (capture(Stack(blocks, gathers=True), x, layers=7) for blocks in (4, 7))
    found["every result"] = few, full
    return found


def clipped_step(loss: Any, optimizer: Any) -> Any:
    """A training step that clips all gradients together."""
    from mindspore import nn, ops

    class Step(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.loss, self.optimizer = loss, optimizer
            self.gradients = ops.GradOperation(get_by_list=True)

        def construct(self, x: Any, y: Any) -> Any:
            loss = self.loss(x, y)
            found = self.gradients(self.loss, self.optimizer.parameters)(x, y)
            self.optimizer(ops.clip_by_global_norm(found, 1.0))
            return loss

    return Step()


def op_by_op() -> dict[str, Any]:
    """Captures in MindSpore's default mode between training steps, and the losses of the same steps without them."""
    import mindspore as ms
    import numpy as np
    from mindspore import nn, ops

    from memplan.readers.mindspore.cell import capture

    x, y = ms.Tensor(np.ones((16, 8), np.float32)), ms.Tensor(np.zeros(16, np.int32))

    def made() -> tuple[Any, Any, Any]:
        ms.set_seed(1)
        net = nn.SequentialCell(nn.Dense(8, 32), nn.ReLU(), nn.Dense(32, 4))
        optimizer = nn.Adam(net.trainable_params())

        def forward(x: Any, y: Any) -> Any:
            return ops.cross_entropy(net(x), y)

        gradients = ms.value_and_grad(forward, None, optimizer.parameters)

        def train_step(x: Any, y: Any) -> Any:
            loss, found = gradients(x, y)
            optimizer(found)
            return loss

        return net, optimizer, train_step

    net, optimizer, train_step = made()
    losses = [float(train_step(x, y))]
    model = ms.Model(net, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"), optimizer)
    kernels = {
        name: [op.type for op in capture(source, *inputs).ops if op.launches]
        for name, source, inputs in (
            ("cell", net, (x,)), ("train_step", train_step, (x, y)), ("jit", ms.jit(train_step), (x, y)),
            ("model", model, (x, y)),
        )
    }  # fmt: skip
    same_mode = ms.get_context("mode") == ms.PYNATIVE_MODE
    losses += [float(train_step(x, y)) for _ in range(2)]
    _, _, undisturbed = made()
    return {
        "kernels": kernels,
        "same_mode": same_mode,
        "losses": [losses, [float(undisturbed(x, y)) for _ in range(3)]],
    }


def refusal(cell: Any, inputs: tuple[Any, ...], layers: int | None) -> str:
    """What capturing `cell` is refused with; empty when it isn't."""
    from memplan.core.errors import InputError
    from memplan.readers.mindspore.cell import capture

    try:
        capture(cell, *inputs, layers=layers)
    except InputError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    os.environ["GLOG_v"] = "4"  # noqa: SIM112 - MindSpore's own spelling
    target = Path(sys.argv[1])
    target.write_text(json.dumps(run(target.parent)))
