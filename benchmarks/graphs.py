"""
How long reading a compiled graph takes and how much memory: `python benchmarks/graphs.py [NODES ...]`.

Writes MindIR files of the asked sizes that look like a training step (a forward chain whose results are all kept for
a backward chain, weights loaded and updated in place), then reads each in a process of its own, up to its lifetimes
and live curve. Prints one row per size: user CPU seconds, resident memory over that of the bare interpreter, peak.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FLOAT32, TENSORS, TUPLE, UMONAD, BOOL, STRING = 1, 19, 20, 23, 9, 8
HIDDEN, TOKENS = 128, 64


def _shape(node: Any, *shapes: tuple[int, ...]) -> None:
    attribute = node.attribute.add(name="shape", type=TENSORS if len(shapes) == 1 else TUPLE)
    for shape in shapes:
        target = attribute if len(shapes) == 1 else attribute.values.add(type=TENSORS)
        target.tensors.add(dims=shape, data_type=FLOAT32)


def write_graph(path: Path, nodes: int) -> int:
    """Write a training step of about `nodes` nodes to `path`; returns the exact number."""
    from memplan.readers.mindir.schema import model_class

    model = model_class(lossless=True)(producer_name="MindSpore", model_version="2.10.0", mind_ir_version=3)
    model.ir_version = "1.1"
    graph = model.graph
    graph.name = "g"
    for op in ("Load", "MatMul", "Mul", "Reshape", "Add", "Adam", "UpdateState", "Depend", "MakeTuple"):
        model.primitives.add(name=f"{op}:1", op_type=op, prim_type=1)
    graph.input.add(name="g:x").tensor.add(dims=(TOKENS, HIDDEN), data_type=FLOAT32)
    constants = {"U": (UMONAD, None), "false": (BOOL, 0), "true": (BOOL, 1)}
    for name, (kind, number) in constants.items():
        attribute = graph.node.add(name=name, op_type="Constant", output=[name]).attribute.add(name="value", type=kind)
        if number is not None:
            attribute.i = number
    count = 0

    def add(op: str, inputs: list[str], *shapes: tuple[int, ...], scope: str) -> str:
        nonlocal count
        count += 1
        name = f"g:n{count}"
        node = graph.node.add(name=name, op_type=f"REF::{op}:1", input=inputs, output=[name])
        node.domain = f"{scope}/{op}-op{count}"
        node.node_attr.add(name="checkpoint", type=BOOL, i=1)
        node.primal_attr.add(name="unique_id", type=STRING, s=str(count).encode())
        if shapes:
            _shape(node, *shapes)
        else:
            node.attribute.add(name="shape", type=UMONAD)
        return name

    rows, square = (TOKENS, HIDDEN), (HIDDEN, HIDDEN)
    layers = max(1, -(-nodes // 11))
    value = "g:x"
    saved: list[tuple[str, str, str]] = []
    for layer in range(layers):
        for tensor in ("weight", "moment1", "moment2"):
            graph.parameter.add(name=f"g:{tensor}{layer}", ref_key=f"{tensor}{layer}", dims=square, data_type=FLOAT32)
        scope = f"Default/layers-CellList/{layer}-Block"
        weight = add("Load", [f"g:weight{layer}", "U"], square, scope=scope)
        product = add("MatMul", [value, weight, "false", "true"], rows, scope=scope)
        view = add("Reshape", [product, "false"], (1, *rows), scope=scope)
        scaled = add("Mul", [view, view], (1, *rows), scope=scope)
        saved.append((weight, value, scaled))
        value = add("Reshape", [add("Add", [scaled, view], (1, *rows), scope=scope), "false"], rows, scope=scope)
    gradient, state = value, "U"
    for layer in reversed(range(layers)):
        scope = f"Gradients/Default/layers-CellList/{layer}-Block"
        weight, before, scaled = saved[layer]
        inner = add("Mul", [gradient, scaled], rows, scope=scope)
        update = add("MatMul", [inner, before, "true", "false"], square, scope=scope)
        gradient = add("MatMul", [inner, weight, "false", "false"], rows, scope=scope)
        written = [f"g:weight{layer}", f"g:moment1{layer}", f"g:moment2{layer}"]
        scalars = ["false"] * 6
        adam = add("Adam", [*written, *scalars, update, state], square, square, square, scope="Default/optimizer-Adam")
        state = add("UpdateState", [state, adam], scope="Default")
    loss = add("Depend", [value, state], rows, scope="Default")
    graph.output.add(name=loss).tensor.add(dims=rows, data_type=FLOAT32)
    path.write_bytes(model.SerializeToString())
    return count


def _peak_kib() -> int:
    """Most memory this process ever had resident; unlike `getrusage` it doesn't start at the parent's."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def measure(path: Path) -> dict[str, float]:
    """Read `path` in this process: CPU seconds and bytes over what the interpreter had."""
    before = _peak_kib()
    start = time.process_time()
    from memplan.graph import lifetimes, live_curve
    from memplan.readers import read_graph

    imported = time.process_time()
    graph = read_graph(path)
    spans = lifetimes(graph)
    done = time.process_time()
    peak = int(live_curve(graph).max())
    return {
        "import_s": imported - start,
        "read_s": done - imported,
        "ops": len(graph.ops),
        "storages": len(spans),
        "peak_bytes": peak,
        "mib_over_interpreter": (_peak_kib() - before) / 1024,
    }


def main() -> None:
    """Run the benchmark and print its table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", type=int)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    print("| nodes | file | ops | storages | read to lifetimes, CPU s | imports, CPU s | MiB over the interpreter |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for wanted in options.nodes or (10_000, 100_000):
            path = Path(folder) / f"{wanted}.mindir"
            nodes = write_graph(path, wanted)
            command = [sys.executable, __file__, "--measure", str(path)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(
                f"| {nodes:,} | {path.stat().st_size / 1e6:.1f} MB | {row['ops']:,} | {row['storages']:,} "
                f"| {row['read_s']:.2f} | {row['import_s']:.2f} | {row['mib_over_interpreter']:.0f} |"
            )


if __name__ == "__main__":
    main()
