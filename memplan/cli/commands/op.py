"""`memplan op`: what one matmul or attention kernel costs on a chip, its tiling, buffers and traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.reports.report import Report

if TYPE_CHECKING:
    from memplan.cost.attention import AttentionProblem
    from memplan.cost.limits import KernelCost
    from memplan.cost.machine import Machine
    from memplan.cost.products import MatmulProblem

op_app = typer.Typer(no_args_is_help=True, help="Cost one kernel: time, bound, tiling, on-chip buffers, traffic.")

_LARGEST = 1 << 30
"""Largest value of a dimension."""
_SWEPT = 40
_DTYPES = {
    "bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32", "int8": "int8",
    "int4": "int4", "fp8": "float8_e4m3", "mxfp8": "float8_e4m3", "hif8": "hifloat8", "fp4": "float4_e2m1",
    "mxfp4": "float4_e2m1",
}  # fmt: skip
ChipOption = Annotated[str, typer.Option("--chip", "-c", help="The chip, such as 910B3, 910C or 950PR_9589.")]


def _dtype(name: str) -> str:
    from memplan.graph.model import DTYPE_BITS

    found = _DTYPES.get(name.casefold(), name.casefold())
    if found not in DTYPE_BITS:
        raise InputError(f"{name!r:.40} is no dtype", remedy=f"use one of {', '.join(_DTYPES)}")
    return found


def _positive(**values: int) -> None:
    for name, value in values.items():
        if not 1 <= value <= _LARGEST:
            raise InputError(f"--{name.replace('_', '-')} {value} is out of range", remedy=f"give 1 to {_LARGEST}")


@op_app.command("matmul")
@reporting
def matmul(
    m: Annotated[int, typer.Option(help="Rows of A and C.")],
    n: Annotated[int, typer.Option(help="Columns of B and C.")],
    k: Annotated[int, typer.Option(help="Columns of A, rows of B.")],
    dtype: Annotated[str, typer.Option(help="Type of A and B: bf16, fp16, fp32, int8, fp8, mxfp4, ...")] = "bf16",
    chip: ChipOption = "910B3",
    batch: Annotated[int, typer.Option(help="Products, each with its own A and B.")] = 1,
    groups: Annotated[int, typer.Option(help="Experts of a grouped matmul: the rows are shared out evenly.")] = 1,
    transpose_a: Annotated[bool, typer.Option(help="A is stored K x M.")] = False,
    transpose_b: Annotated[bool, typer.Option(help="B is stored N x K.")] = False,
    nz: Annotated[bool, typer.Option(help="B is stored in the fractal NZ layout.")] = False,
    activation: Annotated[str, typer.Option(help="A vector op fused behind it, such as SwiGlu.")] = "",
    cores: Annotated[int, typer.Option(help="Cube cores to use; 0: all.")] = 0,
    sweep: Annotated[
        str, typer.Option(help="Draw the curve over one dimension, as m=16:8192.", show_default=False)
    ] = "",
) -> Report:
    """Cost a matmul: the best tiling of the enumerated class, or a curve over one dimension."""
    from memplan.cost.machine import machine
    from memplan.cost.products import MatmulProblem
    from memplan.hardware import chip as find_chip
    from memplan.reports.kernel_op_report import matmul_op_report

    _positive(m=m, n=n, k=k, batch=batch, groups=groups)
    target = find_chip(chip)
    core = machine(target)
    name = _dtype(dtype)
    rate = core.product_rate(name)
    if rate is None:
        known = ", ".join(sorted(core.macs))
        raise InputError(f"the cube of {target.name} does not multiply {name}", remedy=f"it takes {known}")
    if not 0 <= cores <= core.cubes:
        raise InputError(f"--cores {cores}: {target.name} has {core.cubes}", remedy=f"give 1 to {core.cubes}, or 0")
    from memplan.graph.model import DTYPE_BITS

    width = DTYPE_BITS[name] / 8
    count = batch * groups
    problem = MatmulProblem(
        m=max(m // groups, 1), n=n, k=k, batch=count, a_batch=count, b_batch=count, a_bytes=width, b_bytes=width,
        out_bytes=4.0 if name == "float32" else 2.0, a_run="m" if transpose_a else "k",
        b_run="nz" if nz else "k" if transpose_b else "n", mac_rate=rate,
        # Microscaled types carry a byte of scale for every 32 elements.
        extra_bytes=count * k * (max(m // groups, 1) + n) / 32 if dtype.casefold().startswith("mx") else 0.0,
    )  # fmt: skip
    passes = _passes(activation, core)
    if sweep:
        axes = ("m", "n", "k")
        return _swept(sweep, axes, lambda axis, value: _matmul_cost(_with(problem, axis, value), core, passes, cores))
    return matmul_op_report(problem, core, target, dtype=name, passes=passes, cores=cores)


def _with(problem: MatmulProblem, axis: str, value: int) -> MatmulProblem:
    changed = {"m": problem.m, "n": problem.n, "k": problem.k} | {axis: value}
    return replace(problem, m=changed["m"], n=changed["n"], k=changed["k"])


def _passes(activation: str, core: Machine) -> float:
    from memplan.cost.kernels.op_classes import op_class
    from memplan.cost.vector import vector_passes

    if not activation:
        return 0.0
    rule = op_class(activation)
    if rule.rule == "unknown":
        raise InputError(f"{activation!r:.40} is no known vector op", remedy="use Gelu, SwiGlu, Silu, ...")
    return vector_passes(rule, core)


def _matmul_cost(problem: MatmulProblem, core: Machine, passes: float, cores: int) -> KernelCost:
    from memplan.cost.product_costs import matmul_cost

    return matmul_cost(problem, core, passes=passes, blocks=cores)


@op_app.command("attention")
@reporting
def attention(
    q_len: Annotated[int, typer.Option(help="Query tokens of a sequence; 1 for decode.")],
    kv_len: Annotated[int, typer.Option(help="Key tokens of a sequence.")],
    heads: Annotated[int, typer.Option(help="Query heads.")],
    kv_heads: Annotated[int, typer.Option(help="Key heads; 0: as many as query heads.")] = 0,
    head_dim: Annotated[int, typer.Option(help="Size of a query and key head.")] = 128,
    v_dim: Annotated[int, typer.Option(help="Size of a value head; 0: as the key head.")] = 0,
    batch: Annotated[int, typer.Option(help="Sequences.")] = 1,
    dtype: Annotated[str, typer.Option(help="Type of the queries: bf16, fp16, ...")] = "bf16",
    kv_dtype: Annotated[str, typer.Option(help="Type of the stored keys and values; as the queries by default.")] = "",
    causal: Annotated[bool, typer.Option(help="A query sees no later keys.")] = True,
    mla: Annotated[bool, typer.Option(help="Values are a part of the stored keys (MLA).")] = False,
    window: Annotated[int, typer.Option(help="Sliding window: keys a query sees; 0: all.")] = 0,
    chunk: Annotated[int, typer.Option(help="Chunked attention: tokens of a chunk; 0: none.")] = 0,
    ratio: Annotated[int, typer.Option(help="Tokens that are compressed to one key (CSA: 4, HCA: 128).")] = 1,
    top_k: Annotated[int, typer.Option(help="Keys that an indexer keeps for each query; 0: all.")] = 0,
    page: Annotated[int, typer.Option(help="Tokens of a KV page; 0: contiguous.")] = 0,
    backward: Annotated[bool, typer.Option("--backward", help="The backward kernel.")] = False,
    indexer: Annotated[bool, typer.Option("--indexer", help="The indexer that chooses the top-k keys.")] = False,
    chip: ChipOption = "910B3",
    sweep: Annotated[str, typer.Option(help="Draw the curve, as kv_len=1024:131072.", show_default=False)] = "",
) -> Report:
    """Cost an attention kernel: MHA, GQA, MLA, sliding, chunked, sparse or compressed, forward, backward or decode."""
    from memplan.cost.attention import AttentionProblem
    from memplan.cost.machine import machine
    from memplan.graph.model import DTYPE_BITS
    from memplan.hardware import chip as find_chip
    from memplan.reports.kernel_op_report import attention_op_report

    _positive(
        q_len=q_len, kv_len=kv_len, heads=heads, kv_heads=kv_heads or heads, head_dim=head_dim, batch=batch, ratio=ratio
    )
    _positive(v_dim=v_dim or head_dim, window=window or 1, chunk=chunk or 1, top_k=top_k or 1, page=page or 1)
    if heads % (kv_heads or heads):
        raise InputError(f"{heads} heads do not divide among {kv_heads} KV heads", remedy="give a divisor")
    if q_len > kv_len:
        raise InputError(
            f"{q_len} queries but only {kv_len} keys", remedy="--kv-len counts the queries' own tokens too"
        )
    if q_len > _LONGEST:
        raise InputError(f"--q-len {q_len} is out of range", remedy=f"give at most {_LONGEST}")
    target = find_chip(chip)
    core = machine(target)
    name = _dtype(dtype)
    rate = core.product_rate(name)
    if rate is None:
        raise InputError(
            f"the cube of {target.name} does not multiply {name}", remedy=f"it takes {', '.join(core.macs)}"
        )
    problem = AttentionProblem(
        batch=batch, heads=heads, kv_heads=kv_heads or heads, q_len=q_len, kv_len=kv_len, d_qk=head_dim,
        d_v=v_dim or head_dim, causal=causal, q_bytes=DTYPE_BITS[name] / 8,
        kv_bytes=DTYPE_BITS[_dtype(kv_dtype or dtype)] / 8, shared_kv=mla, window=window, chunk=chunk, ratio=ratio,
        top_k=top_k, page=page, gradient=backward, indexer=indexer,
    )  # fmt: skip
    if sweep:
        axes = ("q_len", "kv_len", "batch", "heads")
        return _swept(sweep, axes, lambda axis, value: _attention_cost(_at(problem, axis, value), core, rate))
    return attention_op_report(problem, core, target, rate)


_LONGEST = 1 << 24


def _at(problem: AttentionProblem, axis: str, value: int) -> AttentionProblem:
    sizes = {"q_len": problem.q_len, "kv_len": problem.kv_len, "batch": problem.batch, "heads": problem.heads}
    sizes[axis] = value
    changed = replace(problem, q_len=sizes["q_len"], kv_len=sizes["kv_len"], batch=sizes["batch"], heads=sizes["heads"])
    if changed.q_len > min(changed.kv_len, _LONGEST) or changed.heads % changed.kv_heads:
        raise InputError(f"{axis}={value} does not fit the rest", remedy="choose another range")
    return changed


def _attention_cost(problem: AttentionProblem, core: Machine, rate: float) -> KernelCost:
    from memplan.cost.kernel_time import attention_cost

    return attention_cost(problem, core, rate)


def _swept(text: str, axes: Sequence[str], cost_at: Callable[[str, int], KernelCost]) -> Report:
    """The curve of `cost_at(axis, value)` over the range that `text` gives."""
    from memplan.reports.kernel_op_report import sweep_report

    axis, values = _range(text, axes)
    return sweep_report(axis, [(value, cost_at(axis, value)) for value in values])


def _range(text: str, axes: Sequence[str]) -> tuple[str, list[int]]:
    """The axis and values of `m=16:8192` (doubling) or `m=16,48,100`."""
    axis, _, span = text.partition("=")
    axis = axis.strip().replace("-", "_")
    remedy = f"write it as {axes[0]}=16:8192 or {axes[0]}=16,48,100; axes are {', '.join(axes)}"
    try:
        if ":" in span:
            low, high = (int(part) for part in span.split(":"))
            values = [low << step for step in range(_SWEPT) if low << step <= high] if low > 0 else []
        else:
            values = [int(part) for part in span.split(",")]
    except ValueError:
        raise InputError(f"--sweep {text!r:.60} is not a range", remedy=remedy) from None
    if axis not in axes or not values or len(values) > _SWEPT or not all(1 <= value <= _LARGEST for value in values):
        raise InputError(f"--sweep {text!r:.60} is not a range", remedy=remedy)
    return axis, values
