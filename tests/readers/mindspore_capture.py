"""
Captures cells in a process with MindSpore and prints what the tests compare, as JSON.

Started as a process of its own by the tests, because MindSpore keeps its configuration per process.
"""

from __future__ import annotations

import json
import os
import sys
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

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device("CPU")
    found: dict[str, Any] = {"captured": {}, "extended": {}, "refused": {}}
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
            cell, inputs = decoder(shape), (tokens,)
            if training:
                cell, inputs = train_step(cell, shape.vocabulary), (tokens, tokens)
            cell.set_train(training)
            graphs[depth] = capture(cell, *inputs, layers=6)
            if depth == 4 and not training:
                still = cell(*inputs)
                found["still_runs"] = len(still.shape) == 3
        found["extended"]["train" if training else "infer"] = [live_curve(graphs[k]).tolist() for k in (4, 6)]
    for name, cell, inputs, layers in (
        ("no cell", object(), (), None),
        ("wrong inputs", SAMPLES["mlp"]().cell, (ms.Tensor(np.zeros((2, 3), np.float32)),), None),
        ("few layers", SAMPLES["llama_infer"]().cell, SAMPLES["llama_infer"]().inputs, 61),
    ):
        found["refused"][name] = refusal(cell, inputs, layers)
    return found


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
    os.environ["GLOG_v"] = "4"  # noqa: SIM112
    target = Path(sys.argv[1])
    target.write_text(json.dumps(run(target.parent)))
