"""
Two tables of `aicore.md`: tilings of one core against ZigZag's, and how long the costs of 10,000 ops take.

ZigZag's answers are recorded in `aicore_zigzag.json`; an interpreter with `zigzag-dse` makes them anew.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.markdown import section, table
from memplan.cost import machine, op_costs
from memplan.cost.buffers import matmul_buffers
from memplan.cost.kernel_report import traffic_bound
from memplan.cost.products import MatmulProblem, search_tilings
from memplan.graph import Graph, Op, Tensor, TensorKind, dense_bytes
from memplan.hardware import chip
from memplan.placement.onchip import plan_onchip

HERE = Path(__file__).parent


def tilings(zigzag: str | None) -> Iterator[str]:
    """GM traffic of one core's best tiling against ZigZag's, and the check of every buffer plan."""
    shapes = json.loads((HERE / "aicore_shapes.json").read_text("utf-8"))["shapes"]
    recorded = HERE / "aicore_zigzag.json"
    if zigzag:
        answer = subprocess.run(
            [zigzag, str(HERE / "aicore_zigzag.py")],
            input=json.dumps(shapes),
            capture_output=True,
            text=True,
            check=True,
        )
        pairs = [json.dumps(pair) for pair in zip(shapes, json.loads(answer.stdout), strict=True)]
        recorded.write_text("[\n" + ",\n".join(pairs) + "\n]\n", "utf-8")
    peer = {tuple(shape): found for shape, found in json.loads(recorded.read_text("utf-8"))}
    target = chip("910B1")
    core = machine(target)
    rows, worse, invalid, ours, theirs, slowest = [], 0, 0, 0.0, 0.0, float("inf")
    for m, n, k in shapes:
        problem = MatmulProblem(m=m, n=n, k=k)
        started = time.process_time()
        found = search_tilings(problem, core, cores=1)
        best = found.best("gm_bytes")
        spent = time.process_time() - started
        mine = float(found.columns["gm_bytes"][best]) / 2
        plan = plan_onchip(matmul_buffers(problem, found.tiling(best)), target)
        invalid += not plan.fits
        their = peer[m, n, k]
        worse += mine > their["elements"]
        ours, theirs = ours + spent, theirs + their["cpu_seconds"]
        slowest = min(slowest, their["cpu_seconds"] / max(spent, 1e-9))
        rows.append(
            (
                f"{m}x{n}x{k}",
                f"{mine / 1e6:,.2f}",
                f"{their['elements'] / 1e6:,.2f}",
                f"{their['elements'] / mine:.2f}",
                f"{mine * 2 / traffic_bound(problem, core):.2f}",
                f"{spent * 1e3:.1f}",
                f"{their['cpu_seconds']:.1f}",
                str(found.tiling(best)),
                "fits" if plan.fits else f"{plan.shortfall} B too many",
            )
        )
    yield from section(
        "Tilings of one core against ZigZag",
        f"{len(shapes)} fp16 products m x n x k on one 2201 core: millions of elements between GM and the core, C "
        "included. ZigZag 3.9.1, LOMA, lpf_limit 6, the better of its answers for energy and latency. The lower bound "
        "is the larger of each operand once and 2MNK/sqrt(S) - 2S, S all L1, L0A, L0B and L0C.",
    )
    summary = [
        ("shapes with more GM traffic than ZigZag's", worse),
        ("buffer plans that do not fit or fail the validator", invalid),
        ("times as fast, all shapes", f"{theirs / ours:,.0f}"),
        ("times as fast, the least of any shape", f"{slowest:,.0f}"),
    ]
    yield from table(("", "figure"), summary)
    header = (
        "shape",
        "elements M",
        "ZigZag's M",
        "ratio",
        "over bound",
        "CPU ms",
        "ZigZag's CPU s",
        "tiling",
        "buffers",
    )
    yield from table(header, rows)


def transformer(layers: int, hidden: int, tokens: int) -> Graph:
    """A chain of matmuls, norms and elementwise ops with `13 * layers` ops, every layer of the same shapes."""
    tensors: list[Tensor] = []
    ops: list[Op] = []

    def tensor(shape: tuple[int, ...], kind: TensorKind, producer: int | None) -> int:
        index = len(tensors)
        nbytes = dense_bytes(shape, "bfloat16")
        tensors.append(Tensor(index, f"t{index}", shape, "bfloat16", nbytes, kind, index, producer))
        return index

    def op(op_type: str, inputs: list[int], shape: tuple[int, ...], **attributes: object) -> int:
        made = tensor(shape, TensorKind.ACTIVATION, len(ops))
        ops.append(Op(len(ops), f"op{len(ops)}", op_type, tuple(inputs), (made,), attrs=attributes))
        return made

    x = tensor((tokens, hidden), TensorKind.INPUT, None)
    for _ in range(layers):
        weights = {
            shape: tensor(shape, TensorKind.WEIGHT, None)
            for shape in ((hidden, hidden), (hidden, 3 * hidden), (hidden, 4 * hidden), (4 * hidden, hidden), (hidden,))
        }
        normed = op("RmsNorm", [x, weights[(hidden,)]], (tokens, hidden))
        qkv = op("MatMul", [normed, weights[(hidden, 3 * hidden)]], (tokens, 3 * hidden))
        q, k, v = (op("Slice", [qkv], (tokens, hidden)) for _ in range(3))
        heads = (1, hidden // 128, tokens, 128)
        q, k, v = (op("Reshape", [part], heads) for part in (q, k, v))
        attended = op("FlashAttentionScore", [q, k, v], heads, sparse_mode=2)
        merged = op(
            "MatMul", [op("Reshape", [attended], (tokens, hidden)), weights[(hidden, hidden)]], (tokens, hidden)
        )
        up = op(
            "MatMul", [op("Add", [x, merged], (tokens, hidden)), weights[(hidden, 4 * hidden)]], (tokens, 4 * hidden)
        )
        x = op("MatMul", [op("Gelu", [up], (tokens, 4 * hidden)), weights[(4 * hidden, hidden)]], (tokens, hidden))
    return Graph("transformer", tuple(ops), tuple(tensors), (0,), (x,), "benchmark", "benchmark")


def speed() -> Iterator[str]:
    """Time of 10,000 op costs, of a graph whose layers repeat and of kernels that are all different."""
    core = machine(chip("910B3"))
    graph = transformer(10_000 // 15 + 1, 4096, 4096)
    op_costs(transformer(1, 256, 64), core)
    started = time.process_time()
    count = len(op_costs(graph, core))
    repeated = time.process_time() - started
    different = [transformer(1, 128 * (i + 2), 16 * (i + 1)) for i in range(64)]
    started = time.process_time()
    others = sum(len(op_costs(small, core)) for small in different)
    apart = time.process_time() - started
    yield "## Speed"
    yield ""
    rows = [
        (f"a graph of {count:,} ops with repeating layers", f"{repeated:.2f} s", f"{10_000 * repeated / count:.2f} s"),
        (f"{others:,} ops, no two layers alike", f"{apart:.2f} s", f"{10_000 * apart / others:.2f} s"),
    ]
    yield from table(("op costs", "CPU", "for 10,000"), rows)
