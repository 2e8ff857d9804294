"""
The AI-core cost model against measurements, its tilings against ZigZag's, and its speed; the table it prints is
`aicore.md`.

    python -m benchmarks.aicore [--data ../shared/data] [--zigzag PYTHON] [-o benchmarks/aicore.md]

`--zigzag` names an interpreter with `zigzag-dse` and `six` installed; without it the figures recorded in
`aicore_zigzag.json` are compared with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

import memplan
from benchmarks.aicore_published import published
from benchmarks.aicore_tilings import speed, tilings
from benchmarks.markdown import percent, section, table
from benchmarks.measured_row import MeasuredRow
from memplan.cost import Kernel, Machine, Operand, kernel_cost, machine
from memplan.cost.attention import AttentionProblem, attention_time
from memplan.cost.calibration_fit import calibrate
from memplan.cost.limits import KernelCost
from memplan.cost.measured_kernels import MeasuredKernels, measured_kernels, observe
from memplan.cost.ordered_costs import costs_in_order
from memplan.cost.product_costs import matmul_cost
from memplan.cost.products import MatmulProblem
from memplan.hardware import chip
from memplan.traces.profile import Kernels

HERE = Path(__file__).parent
PROFILES = (
    ("qwen3-0.6b-train-4rank", "profiles/qwen3-0.6b-train-4rank", 0, "910B4"),
    ("gpt3-2023-handcut", "profiles/gpt3-2023-handcut/test_rank_0", None, "910B1"),
    ("alexnet-ddp-2rank, level 2", "profiles/alexnet-ddp-2rank/text/level2/rank0_ascend_pt", None, "910B2"),
    ("fixture: compute_advice", "profiles/msprof-analyze-fixtures/advisor/compute_advice/data", None, "910B3"),
    (
        "fixture: advisor_backend",
        "profiles/msprof-analyze-fixtures/advisor/advisor_backend/compute_advice",
        None,
        "910B1",
    ),
)


def published_kernels(data: Path) -> Iterator[str]:
    """Every kernel of `validation.json`: task time and pipes."""
    rows = list(published(data / "hardware/validation.json"))
    timed = [row for row in rows if row.error is not None]
    apart = [row for row in timed if not row.is_source]
    yield "## Published kernels, uncalibrated"
    yield ""
    summary = []
    for name, chosen in (("all", timed), ("no constant was taken from them", apart)):
        errors = [abs(row.error or 0) for row in chosen]
        summary.append((name, len(errors), percent(median(errors)), percent(max(errors))))
    yield from table(("rows", "kernels", "median error", "worst"), summary)
    pipes: dict[str, list[float]] = {}
    for row in rows:
        for name, (truth, predicted) in row.pipes.items():
            pipes.setdefault(name, []).append(abs(predicted / truth - 1))
    pipe_rows = [(name, len(errors), percent(median(errors)), percent(max(errors))) for name, errors in pipes.items()]
    yield from table(("pipe time", "rows", "median error", "worst"), pipe_rows)
    yield "`*`: a constant of `machine.json` rests on this row, so it is no independent check."
    yield ""
    lines = [
        (
            row.name + (" *" if row.is_source else ""),
            "-" if row.measured is None else f"{row.measured:,.1f}",
            f"{row.predicted:,.1f}",
            "-" if row.error is None else f"{row.error:+.1%}",
            ", ".join(f"{name} {truth:,.0f}/{found:,.0f}" for name, (truth, found) in row.pipes.items()),
        )
        for row in rows
    ]
    yield from table(("kernel", "measured us", "predicted us", "error", "pipes, measured/predicted us"), lines)


_READS_MOST = "MLA memory-bound"


def utilisation_rows(data: Path) -> Iterator[MeasuredRow]:
    """
    Utilisations published for a 910C die; where a range is given, its middle.

    What HBM of the die reaches is that of the attention that reads the most.
    """
    core = machine(chip("910C"))
    dense = AttentionProblem(96, 128, 1, 2, 4096, d_qk=576, d_v=512, shared_kv=True, page=128)
    thin = replace(dense, heads=16, q_len=1)
    product = MatmulProblem(m=4096, n=7168, k=7168, a_bytes=1, b_bytes=1, mac_rate=core.macs["int8"])
    found = {
        "MLA compute-bound BF16": (
            dense.flops / attention_time(dense, core, 4096.0).duration / 376e3,
            "B96 N128 Sq2 S4096",
        ),
        "MLA memory-bound": (
            thin.compulsory_bytes / attention_time(thin, core, 4096.0).duration / 1600,
            "B96 N16 Sq1 S4096",
        ),
        "INT8 GEMM": (product.flops / matmul_cost(product, core).duration_ns / 752e3, "4096x7168x7168"),
    }
    for row in json.loads((data / "hardware/validation.json").read_text("utf-8")):
        if row["kind"] == "op_util":
            share, shape = found[row["op"]]
            told = row["utilisation"]
            middle = sum(told) / len(told) if isinstance(told, list) else told
            name = f"{row['op']}, predicted for {shape}"
            yield MeasuredRow(
                "utilisation", row["source"], "910C", name, "share", middle, share, is_source=row["op"] == _READS_MOST
            )


def utilisations(data: Path) -> Iterator[str]:
    """Utilisations and MoE communication published for a 910C die."""
    rows = list(json.loads((data / "hardware/validation.json").read_text("utf-8")))
    core = machine(chip("910C"))
    yield from section(
        "Published utilisations of a 910C die",
        "Shares of the vendor's 376 TFLOP/s BF16, 752 TOP/s INT8 and 1.6 TB/s. The sources do not give the shapes: "
        "those of the predictions are in the table. MoE rows send the bytes that latency and rate published give.",
    )
    yield from table(
        ("op", "published", "predicted"),
        [(row.name, f"{row.measured:.3f}", f"{row.predicted:.3f}") for row in utilisation_rows(data)],
    )
    shown = []
    for row in rows:
        if row["kind"] != "moe_comm":
            continue
        payload = row["latency_us"] * row["bw_per_rank_GBps"] * 1e3
        kind = f"MoeDistribute{row['op'].capitalize()}"
        data_in = Operand((round(payload),), "int8")
        found = kernel_cost(Kernel(kind, (data_in,), (data_in,), (("rank_size", row["ep"]),)), core)
        predicted = found.duration_ns / 1e3
        shown.append(
            (row["op"], row["ep"], row["latency_us"], f"{predicted:.0f}", f"{predicted / row['latency_us'] - 1:+.0%}")
        )
    yield from table(("MoE", "ranks", "measured us", "predicted us", "error"), shown)


def kernels_of(path: Path, rank: int | None) -> Kernels | None:
    """The kernels of a profile's rank, of its first one with kernels if none is named."""
    profile = memplan.open_profile(path)
    ranks = [rank] if rank is not None else list(profile.ranks)
    return next((found for number in ranks if (found := profile.rank(number).kernels()) is not None), None)


def profiles(data: Path) -> Iterator[str]:
    """Errors over the compute kernels of each profile, uncalibrated and calibrated, and bounds against PMU ratios."""
    yield from section(
        "Profiles",
        "All compute kernels, rows without shapes included. Cores and clock are the profile's own; no profile names "
        "its chip: it was taken by cores and, for the first one, by the rate of its large streams (0.6-0.8 TB/s), "
        "which only the 32 GB part has. Calibrated on odd rows, checked on even ones, which mostly repeat their "
        "shapes; shapes never seen and other profiles are in [kernel_calibration.md](kernel_calibration.md).",
    )
    rows: list[tuple[str, ...]] = []
    bounds = []
    for name, folder, rank, chip_name in PROFILES:
        columns = kernels_of(data / folder, rank)
        if columns is None:
            rows.append((name, chip_name, "-", "no kernels found", "-", "-", "-", "-"))
            continue
        core = machine(chip(chip_name), clock_hz=observe(columns).clock_hz)
        kernels = measured_kernels(columns)
        costs = costs_in_order(kernels.kernels, core)
        errors, weighted = _errors(kernels, [cost.duration_ns for cost in costs])
        simple = [roofline_ns(kernel, core) for kernel in kernels.kernels]
        plain, plain_weighted = _errors(kernels, simple)
        fit = calibrate(kernels, core, name)
        rows.append(
            (
                name,
                chip_name,
                str(len(kernels)),
                percent(plain),
                percent(plain_weighted),
                percent(errors),
                percent(weighted),
                percent(fit.check_error),
            )
        )
        bounds.append((name, *_agreement(columns, kernels, costs)))
    header = (
        "profile", "chip", "kernels", "roofline median", "roofline time-weighted", "model median",
        "model time-weighted", "calibrated, even rows",
    )  # fmt: skip
    yield from table(header, rows)
    yield "## Which pipe binds, against PMU ratios"
    yield ""
    bound_header = ("profile", "device time with PMU", "agrees", "by kernels")
    shown = [
        (name, f"{spent / 1e6:,.1f} ms", percent(agreed / spent if spent else None), percent(count))
        for name, spent, agreed, count in bounds
    ]
    yield from table(bound_header, shown)


def time_weighted(columns: Kernels, chip_name: str) -> tuple[int, float, float, float]:
    """Compute kernels of a profile: how many, the model's time-weighted error, a roofline's, and the model's bias."""
    core = machine(chip(chip_name), clock_hz=observe(columns).clock_hz)
    kernels = measured_kernels(columns)
    predicted = [cost.duration_ns for cost in costs_in_order(kernels.kernels, core)]
    plain = _errors(kernels, [roofline_ns(kernel, core) for kernel in kernels.kernels])[1]
    bias = float(np.sum(predicted) / kernels.duration_ns.sum()) - 1
    return len(kernels), _errors(kernels, predicted)[1], plain, bias


def _errors(kernels: MeasuredKernels, predicted: Sequence[float]) -> tuple[float, float]:
    deviation = np.abs(np.asarray(predicted, dtype=float) - kernels.duration_ns)
    return float(np.median(deviation / kernels.duration_ns)), float(deviation.sum() / kernels.duration_ns.sum())


def roofline_ns(kernel: object, core: Machine) -> float:
    """A plain roofline of the kernel: peak rates, every operand once."""
    assert isinstance(kernel, Kernel)
    cost = kernel_cost(kernel, core)
    moved = (kernel.read_bytes + kernel.written_bytes) / core.hbm_bytes_per_second
    rate = core.mac_rate(kernel.present[0].dtype) if kernel.present else None
    work = 0.0
    if cost.kind in ("matmul", "attention") and rate:
        work = cost.flops / (2 * rate * core.cubes * core.clock_hz)
    return max(moved * 1e9, work * 1e9, 1060.0)


def measured_bound(columns: Kernels, row: int) -> str | None:
    """
    What PMU ratios say binds a kernel: `cube`, `vector` or `hbm`; `None` where they say nothing.

    The advisor's rules in order: cube at 0.8 of the time, MTE2 at 0.95; vector, MTE2 and MTE3 together at 0.9, or one
    of them at 0.7; else `memory_bound` = MTE2 / max(mac, vec) above 1. Where MTE and vector together are the rule, the
    larger of them decides; so it does where none fires.
    """

    def ratio(*names: str) -> float:
        values = [float(columns.pmu[name][row]) for name in names if name in columns.pmu]
        return max((value for value in values if value == value), default=0.0)

    mac, vec = ratio("aic_mac_ratio", "mac_ratio"), ratio("aiv_vec_ratio", "vec_ratio")
    mte2 = ratio("aic_mte2_ratio", "aiv_mte2_ratio", "mte2_ratio")
    out = ratio("aiv_mte3_ratio", "aic_fixpipe_ratio", "mte3_ratio")
    if mac == vec == mte2 == out == 0.0:
        return None
    core = columns.core[row].upper()
    if core in ("AI_CORE", "MIX_AIC"):
        if mac >= 0.8:
            return "cube"
        if mte2 >= 0.95 or mte2 > max(mac, vec):
            return "hbm"
    moved = max(mte2, out)
    return "hbm" if moved >= max(mac, vec) else "cube" if mac >= vec else "vector"


def _agreement(
    columns: Kernels, kernels: MeasuredKernels, costs: Sequence[KernelCost]
) -> tuple[float, float, float | None]:
    """Device time (ns) with PMU ratios, how much of it the predicted bound agrees on, and the share of kernels."""
    spent = agreed = count = right = 0.0
    for row, time_ns, cost in zip(kernels.row, kernels.duration_ns, costs, strict=True):
        truth = measured_bound(columns, int(row))
        if truth is None:
            continue
        groups = {
            "cube": cost.pipes.get("cube", 0.0),
            "vector": cost.pipes.get("vector", 0.0),
            "hbm": max(cost.pipes.get(name, 0.0) for name in ("mte2", "mte3", "fixpipe")),
        }
        same = bool(cost.pipes) and max(groups, key=lambda name: groups[name]) == truth
        spent, agreed = spent + time_ns, agreed + time_ns * same
        count, right = count + 1, right + same
    return spent, agreed, right / count if count else None


def measured_profiles(data: Path) -> Iterator[tuple[str, Machine, MeasuredKernels]]:
    """Name, machine at its own clock and kernels of every profile that is there."""
    for name, folder, rank, chip_name in PROFILES:
        columns = kernels_of(data / folder, rank)
        if columns is not None:
            yield name, machine(chip(chip_name), clock_hz=observe(columns).clock_hz), measured_kernels(columns)


def main() -> None:
    """Print the table, or write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared/data", help="the shared data folder")
    parser.add_argument("--zigzag", help="an interpreter with zigzag-dse, to run it anew")
    parser.add_argument("-o", "--output", type=Path, help="write the table here")
    options = parser.parse_args()
    lines = [
        "# The AI-core cost model, measured",
        "",
        "`python -m benchmarks.aicore`; times are CPU seconds of one process.",
        "",
    ]
    for part in (
        published_kernels(options.data),
        utilisations(options.data),
        profiles(options.data),
        tilings(options.zigzag),
        speed(),
    ):
        lines.extend(part)
    text = "\n".join(lines)
    if options.output:
        options.output.write_text(text, "utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
