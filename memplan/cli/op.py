"""`memplan op`: what one matmul or attention kernel costs on a chip, its tiling, buffers and traffic."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memplan.cli.console import YES, JsonOption, print_json, print_table
from memplan.cli.op_report import LARGEST, document, headline, print_buffers, print_sources, print_traffic
from memplan.cli.op_report import sweep as draw_curve
from memplan.core.errors import InputError
from memplan.core.units import format_bytes, format_duration

if TYPE_CHECKING:
    from memplan.cost.attention import AttentionProblem
    from memplan.cost.kernel_time import KernelCost
    from memplan.cost.machine import Machine
    from memplan.cost.tiling import MatmulProblem
    from memplan.hardware import Chip

app = typer.Typer(no_args_is_help=True, help="Cost one kernel: time, bound, tiling, on-chip buffers, traffic.")

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
        if not 1 <= value <= LARGEST:
            raise InputError(f"--{name.replace('_', '-')} {value} is out of range", remedy=f"give 1 to {LARGEST}")


@app.command("matmul")
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
    as_json: JsonOption = False,
) -> int:
    """Cost a matmul: the best tiling of the enumerated class, or a curve over one dimension."""
    from memplan.cost.machine import machine
    from memplan.cost.tiling import MatmulProblem
    from memplan.hardware import chip as find_chip

    _positive(m=m, n=n, k=k, batch=batch, groups=groups)
    target = find_chip(chip)
    core = machine(target)
    name = _dtype(dtype)
    rate = core.mac_rate(name)
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
        return draw_curve(
            sweep,
            ("m", "n", "k"),
            lambda axis, value: _matmul_cost(_with(problem, axis, value), core, passes, cores),
            as_json,
        )
    return _show_matmul(problem, core, target, passes, cores, as_json)


def _with(problem: MatmulProblem, axis: str, value: int) -> MatmulProblem:
    changed = {"m": problem.m, "n": problem.n, "k": problem.k} | {axis: value}
    return replace(problem, m=changed["m"], n=changed["n"], k=changed["k"])


def _passes(activation: str, core: Machine) -> float:
    from memplan.cost.kernel import op_class
    from memplan.cost.vector import vector_passes

    if not activation:
        return 0.0
    rule = op_class(activation)
    if rule.rule == "unknown":
        raise InputError(f"{activation!r:.40} is no known vector op", remedy="use Gelu, SwiGlu, Silu, ...")
    return vector_passes(rule, core)


def _matmul_cost(problem: MatmulProblem, core: Machine, passes: float, cores: int) -> KernelCost:
    from memplan.cost.kernel_time import matmul_cost

    return matmul_cost(problem, core, passes=passes, blocks=cores)


def _show_matmul(problem: MatmulProblem, core: Machine, chip: Chip, passes: float, cores: int, as_json: bool) -> int:
    from memplan.cost.buffers import matmul_buffers
    from memplan.cost.kernel_time import matmul_cost_of
    from memplan.cost.tiling import search_tilings, traffic_bound
    from memplan.placement.onchip import plan_onchip

    found = search_tilings(problem, core, cores=cores or None)
    best = found.best()
    cost = matmul_cost_of(found, best, core, passes=passes)
    tiling = found.tiling(best)
    buffers = plan_onchip(matmul_buffers(problem, tiling), chip)
    used = cores or core.cubes
    bound_bytes = traffic_bound(problem, core, cores=used)
    compulsory = problem.a_total + problem.b_total + problem.c_total
    peak = problem.flops / (2 * problem.mac_rate * used * core.clock_hz) * 1e9
    least = max(peak, compulsory / core.hbm_bytes_per_second * 1e9)
    front: list[dict[str, Any]] = [
        {
            "tiling": str(found.tiling(index)),
            "on_chip_bytes": int(found.columns["l1_bytes"][index] + found.columns["l0c_bytes"][index]),
            "gm_bytes": int(found.columns["gm_bytes"][index]),
            "time_ns": round(float(found.columns["time"][index])),
        }
        for index in found.pareto()
    ]
    bounds = {
        "time_ns": round(least),
        "gm_bytes": round(bound_bytes),
        "hbm_bytes": round(compulsory),
        "method": "time: cube and HBM peak; GM: max(each operand once, 2MNK/sqrt(S) - 2S), S all on-chip elements",
    }
    details = {"tiling": str(tiling), "tilings_enumerated": len(found), "pareto": front}
    if as_json:
        print_json(document(cost, core, bounds, buffers, details))
        return YES
    shape = f"{problem.m} x {problem.n} x {problem.k}" + (f", {problem.batch} products" if problem.batch > 1 else "")
    headline(f"matmul {shape}", cost, core, bounds)
    print(f"tiling: {tiling}; best by modelled time of {len(found)} legal ones")
    print_traffic(cost, bounds)
    print_buffers(buffers)
    step = max(1, -(-len(front) // 12))
    print_table(
        f"Traffic against buffers: {len(front)} tilings that no other beats in both",
        ["L1 and L0C", "GM traffic", "time", "tiling"],
        [
            (
                format_bytes(row["on_chip_bytes"]),
                format_bytes(row["gm_bytes"]),
                format_duration(row["time_ns"]),
                row["tiling"],
            )
            for row in front[::step]
        ],
        right=(0, 1, 2),
    )
    print_sources(core, cost)
    return YES


@app.command("attention")
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
    as_json: JsonOption = False,
) -> int:
    """Cost an attention kernel: MHA, GQA, MLA, sliding, chunked, sparse or compressed, forward, backward or decode."""
    from memplan.cost.attention import AttentionProblem
    from memplan.cost.machine import machine
    from memplan.graph.model import DTYPE_BITS
    from memplan.hardware import chip as find_chip

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
    rate = core.mac_rate(name)
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
        return draw_curve(
            sweep, axes, lambda axis, value: _attention_cost(_at(problem, axis, value), core, rate), as_json
        )
    return _show_attention(problem, core, target, rate, as_json)


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


def _show_attention(problem: AttentionProblem, core: Machine, chip: Chip, rate: float, as_json: bool) -> int:
    from memplan.cost.attention import attention_time
    from memplan.cost.buffers import attention_buffers
    from memplan.cost.kernel_time import attention_cost_of
    from memplan.placement.onchip import plan_onchip

    time = attention_time(problem, core, rate)
    cost = attention_cost_of(problem, time, core)
    buffers = plan_onchip(attention_buffers(problem, time, core), chip)
    peak = problem.flops / (2 * rate * core.cubes * core.clock_hz) * 1e9
    least = max(peak, problem.compulsory_bytes / core.hbm_bytes_per_second * 1e9)
    bounds = {
        "time_ns": round(least),
        "gm_bytes": round(problem.compulsory_bytes),
        "hbm_bytes": round(problem.compulsory_bytes),
        "method": "time: cube peak and HBM peak; bytes: each operand once (no sharper constant is known for attention)",
    }
    details = {
        "blocks": {"q": time.block_q, "kv": time.block_kv},
        "keys_per_query": round(problem.keys_per_query, 1),
        "cores": time.cores,
    }
    if as_json:
        print_json(document(cost, core, bounds, buffers, details))
        return YES
    kind = "indexer" if problem.indexer else "attention backward" if problem.gradient else "attention"
    headline(
        f"{kind} B{problem.batch} N{problem.heads}/{problem.kv_heads} S{problem.q_len}/{problem.kv_len} "
        f"D{problem.d_qk}/{problem.d_v}, {problem.keys_per_query:,.0f} keys a query",
        cost,
        core,
        bounds,
    )
    print(f"blocks: {time.block_q} queries x {time.block_kv} keys on {time.cores} cores")
    print_traffic(cost, bounds)
    print_buffers(buffers)
    print_sources(core, cost)
    return YES
