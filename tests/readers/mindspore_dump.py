"""
Compiles a sample model on MindSpore's CPU backend with SOMAS on and leaves its dumps in a folder.

Started as a process of its own by the tests, because MindSpore keeps its configuration per process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def dump(name: str, folder: Path, *, graph_kernel: bool = False, run: bool = False) -> None:
    """IR, actor and SOMAS dumps of sample `name` in `folder`."""
    import mindspore as ms

    from memplan.models.samples.mindir_export import SAMPLES

    ms.set_context(mode=ms.GRAPH_MODE, save_graphs=1, save_graphs_path=str(folder))
    ms.set_device("CPU")
    if graph_kernel:
        ms.set_context(enable_graph_kernel=True)
    ms.runtime.set_memory(optimize_level="O1")
    sample = SAMPLES[name]()
    if run:
        sample.cell(*sample.inputs)
    else:
        sample.cell.compile(*sample.inputs)


if __name__ == "__main__":
    os.environ.setdefault("GLOG_v", "3")
    target = Path(sys.argv[2]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    os.chdir(target)
    dump(sys.argv[1], target, graph_kernel="graph_kernel" in sys.argv, run="run" in sys.argv)
