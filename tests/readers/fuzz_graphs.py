"""
Feeds damaged graph files to the readers: `python tests/readers/fuzz_graphs.py COUNT [SEED]`.

Every mutant must yield a valid graph (or plan) or one `InputError`; any other exception, more than a gigabyte of
memory or more than a minute for one file is a failure, which names the seed that makes the mutant again.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError
from memplan.graph import Graph, lifetimes
from memplan.imports import read_plan
from memplan.readers import read_graph

MEMORY_BYTES = 1024**3
SECONDS_PER_FILE = 60
SMALL = (
    "control_flow.mindir",
    "dynamic_batch.mindir",
    "mlp_train.mindir",
    "graph_kernel.ir",
    "control_flow.ir",
    "actor_set_cnn.ir",
    "somas_cnn.ir",
    "perceptron.onnx",
)
MADE = ("plog.log", "static_op_mem.csv")  # fmt: skip


def corpus() -> dict[str, bytes]:
    """Real files by name: those of the tests and the bundled samples."""
    data = Path(__file__).with_name("data")
    found = {name: (data / name).read_bytes() for name in SMALL}
    found["plog.log"] = (
        b"[IMAS]Set g name[a] optype[Conv2D] output[0] offset to [0] streamid[0] memtype[2] size[1024] realsize[1000] "
        b"noalignsize[1000] life time begin[1] life time end[3] child[0:0:0:0:0] isref[0] batch[], block_type[x]\n"
    ) * 3
    found["static_op_mem.csv"] = b"Op Name,Node Index Start,Node Index End,Size(KB)\na,0,5,4\nb,2,4294967295,0.5\n" * 2
    for name in ("cnn", "llama_infer", "llama_train"):
        found[f"{name}.mindir"] = (resources.files("memplan.samples") / f"{name}.mindir").read_bytes()
    return found


def flip_bits(data: bytearray, rng: random.Random) -> None:
    """Flip a few bits anywhere."""
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: random.Random) -> None:
    """Keep the beginning only."""
    del data[rng.randrange(len(data)) :]


def drop(data: bytearray, rng: random.Random) -> None:
    """Take out a stretch."""
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 4, 64, 1000))]


def repeat(data: bytearray, rng: random.Random) -> None:
    """Put a stretch in twice."""
    start = rng.randrange(len(data))
    data[start:start] = data[start : start + rng.choice((1, 4, 64, 1000))]


def overwrite(data: bytearray, rng: random.Random) -> None:
    """Write noise or extreme values over a stretch."""
    start = rng.randrange(len(data))
    filling = rng.choice((b"\xff" * 9, b"\x00" * 8, b"9" * 18, b"-1", rng.randbytes(16)))
    data[start : start + len(filling)] = filling


BLIND: tuple[Callable[[bytearray, random.Random], None], ...] = (flip_bits, cut, drop, repeat, overwrite)


def mutate_message(data: bytes, rng: random.Random) -> bytes:
    """A MindIR file that is valid protobuf but says something else: names, inputs, types, shapes, calls."""
    from memplan.readers.mindir.schema import model_class

    model = model_class(lossless=True).FromString(data)
    graphs = [model.graph, *model.functions]
    for _ in range(rng.choice((1, 1, 2, 5))):
        graph = rng.choice(graphs)
        _mutate_graph(model, graph, graphs, rng)
    return bytes(model.SerializeToString())


def _mutate_graph(model: Any, graph: Any, graphs: list[Any], rng: random.Random) -> None:
    if not graph.node:
        return
    node, other = rng.choice(graph.node), rng.choice(rng.choice(graphs).node or graph.node)
    action = rng.randrange(11)
    if action == 0 and node.input:
        node.input[rng.randrange(len(node.input))] = other.name
    elif action == 1:
        node.op_type = other.op_type
    elif action == 2:
        node.op_type = f"REF::{rng.choice(graphs).name}"
    elif action == 3:
        node.name = other.name
        del node.output[:]
        node.output.append(other.name)
    elif action == 4:
        del node.attribute[:]
    elif action == 5 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif action == 6:
        for attribute in node.attribute:
            attribute.type = rng.randrange(45)
    elif action == 7:
        for attribute in node.attribute:
            for tensor in attribute.tensors:
                tensor.dims.append(rng.choice((-1, -2, 0, 2**40, 2**62)))
    elif action == 8 and model.primitives:
        rng.choice(model.primitives).op_type = rng.choice(model.primitives).op_type
    elif action == 9 and graph.input:
        del graph.input[rng.randrange(len(graph.input))]
    elif action == 10:
        graph.node.add().CopyFrom(other)


def mutate_lines(data: bytes, rng: random.Random) -> bytes:
    """A text dump with lines lost, doubled, swapped, or words exchanged."""
    lines = data.decode("utf-8", "replace").splitlines()
    for _ in range(rng.choice((1, 1, 3, 10))):
        first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
        action = rng.randrange(4)
        if action == 0 and len(lines) > 2:
            del lines[first]
        elif action == 1:
            lines.insert(first, lines[second])
        elif action == 2:
            lines[first], lines[second] = lines[second], lines[first]
        else:
            words = lines[first].split(" ")
            words[rng.randrange(len(words))] = rng.choice(lines[second].split(" "))
            lines[first] = " ".join(words)
    return "\n".join(lines).encode()


def mutant(files: dict[str, bytes], seed: int) -> tuple[str, bytes]:
    """The mutant number `seed`: the name of the file it was made from and its bytes."""
    rng = random.Random(seed)
    # The large files take longer each; a tenth of the mutants is theirs.
    large = sorted(set(files) - set(SMALL) - set(MADE))
    name = rng.choice(large) if rng.random() < 0.1 else rng.choice((*SMALL, *MADE))
    data = files[name]
    if rng.random() < 0.5:
        if name.endswith(".mindir"):
            return name, mutate_message(data, rng)
        if not name.endswith(".onnx"):
            return name, mutate_lines(data, rng)
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2))):
        if damaged:
            rng.choice(BLIND)(damaged, rng)
    return name, bytes(damaged)


def check(graph: Graph) -> None:
    """What every graph must satisfy."""
    count = len(graph.tensors)
    for op in graph.ops:
        if not all(0 <= tensor < count for tensor in (*op.inputs, *op.outputs)):
            raise AssertionError("an op names a tensor that is not there")
    for span in lifetimes(graph):
        if not 0 <= span.start <= span.end <= len(graph.ops) or span.nbytes < 0:
            raise AssertionError("an impossible lifetime")


def try_one(path: Path) -> bool:
    """Read one file; true when it was accepted. Anything but an `InputError` passes through."""
    try:
        check(read_graph(path, shapes=None))
    except InputError as error:
        if "\n" in str(error) or not str(error).startswith(str(path)):
            raise AssertionError(f"not one clear line: {error}") from error
    else:
        return True
    try:
        read_plan(path)
    except InputError:
        return False
    return True


def run(count: int, first_seed: int = 0) -> int:
    """Try `count` mutants; returns how many were accepted. Raises for the first one that fails."""
    files = corpus()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    accepted = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(first_seed, first_seed + count):
            name, data = mutant(files, seed)
            path = Path(folder) / f"mutant{Path(name).suffix}"
            path.write_bytes(data)
            signal.alarm(SECONDS_PER_FILE)
            try:
                accepted += try_one(path)
            except BaseException:
                print(f"mutant {seed} of {name} fails", file=sys.stderr)
                raise
            signal.alarm(0)
    return accepted


if __name__ == "__main__":
    asked = int(sys.argv[1])
    begin = time.process_time()
    kept = run(asked, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    peak = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM:"))
    print(f"{asked} mutants, {kept} accepted, {time.process_time() - begin:.1f} s, {peak}")
