"""
What one kernel costs on one machine: the door to the formulas of matmul, attention, vector work and collectives.

Equal kernels are costed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from memplan.cost.attention import AttentionProblem, AttentionTime, attention_time
from memplan.cost.chunk_kernels import chunk_ns
from memplan.cost.collective import collective_time
from memplan.cost.convolution import convolution_of, images_dealt
from memplan.cost.deviations import UNKNOWN_L2, L2State, PlainTimes
from memplan.cost.kernel import (
    CONVOLUTIONS,
    Kernel,
    OpClass,
    logical_row,
    of_tokens_alone,
    op_class,
    rows_overlap,
    takes_turns,
)
from memplan.cost.layout_copies import as_cube_takes, layout_copies
from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped
from memplan.cost.shapes import (
    Shaped,
    attention_of,
    chunk_products_of,
    einsum_of,
    in_pages,
    matmul_of,
    recurrent_of,
)
from memplan.cost.tiling import MatmulProblem, Search, Tiling, given, search_tilings
from memplan.cost.vector import VectorTime, VectorWork, vector_passes, vector_product, vector_time, vector_work
from memplan.hardware import Link

CUBE, VECTOR, MEMORY, LAUNCH, LINK, NONE = "cube", "vector", "hbm", "launch", "link", "none"
REREAD_KINDS = ("matmul", "attention")
"""Formulas whose constants were found on operands that are cold, as these kernels read them many times over."""


@dataclass(frozen=True, slots=True)
class KernelCost:
    """
    Predicted time of one kernel and what makes it up.

    `pipes` are nanoseconds by pipe (`cube`, `mte1`, `mte2`, `mte3`, `fixpipe`, `vector`, `scalar`), averages over the
    cores as profilers report them, with the pipes that the kernel does not use left out. `gm_bytes` crosses between the
    cores and GM, of which `hbm_bytes` reaches HBM and the rest is served by L2. `bound` is `cube`, `vector`, `hbm`
    (HBM or L2), `link` or `launch`; `kind` the formula used, `tiling` that of a matmul. `assumed` says what the
    operands did not tell. `known` is false when they did not suffice and only the launch is counted.
    """

    duration_ns: int
    bound: str
    pipes: Mapping[str, float]
    flops: int
    gm_bytes: int
    hbm_bytes: int
    kind: str
    tiling: Tiling | None = None
    assumed: str = ""
    known: bool = True


def kernel_cost(kernel: Kernel, machine: Machine, l2: L2State = UNKNOWN_L2, *, cold_code: bool = False) -> KernelCost:
    """
    Cost of `kernel`, which meets `l2` where the caller knows the ops before it.

    With `cold_code` its vector cores fetch their instructions first, as they do behind another kernel.
    """
    asked = L2State(l2.hot, clean=l2.clean) if machine.calibration is None else l2
    return _cached(kernel, machine, asked.stepped(), cold_code)


@lru_cache(maxsize=65536)
def _cached(kernel: Kernel, machine: Machine, l2: L2State, cold_code: bool) -> KernelCost:
    cost = _modelled(kernel, machine, l2.hot, cold_code, clean=l2.clean)
    if machine.calibration is None:
        return cost
    plain = plain_times(kernel, machine, _ordered_ns(kernel, machine, l2.hot))
    time = machine.calibration.corrected_ns(kernel, plain, l2)
    return cost if time is None else replace(cost, duration_ns=time)


def _ordered_ns(kernel: Kernel, machine: Machine, hot: float | None) -> int:
    """The model's time among other kernels, as a profile's are fitted, with the share `hot` of its reads in L2."""
    alone, _ = _alone_and_through(kernel, machine)
    if alone.kind in REREAD_KINDS:
        return alone.duration_ns
    return _modelled(kernel, machine, hot, cold_code=True).duration_ns


def plain_times(kernel: Kernel, machine: Machine, ordered_ns: int) -> PlainTimes:
    """What the model gives `kernel` on `machine` run alone, beside what it gives it in its place, `ordered_ns`."""
    alone, through_ns = _alone_and_through(kernel, machine)
    filled = alone.gm_bytes / machine.l2
    read_ns = kernel.read_bytes / machine.hbm_bytes_per_second * 1e9
    return PlainTimes(alone.duration_ns, ordered_ns, through_ns, read_ns, filled, alone.bound, alone.known)


@lru_cache(maxsize=65536)
def _alone_and_through(kernel: Kernel, machine: Machine) -> tuple[KernelCost, int]:
    """The cost alone, and the time with nothing that vector work writes kept in L2."""
    alone = _modelled(kernel, machine, None)
    if "vector" in alone.pipes and "cube" not in alone.pipes:
        return alone, _modelled(kernel, machine, None, kept=False).duration_ns
    return alone, alone.duration_ns


@dataclass(frozen=True, slots=True)
class KernelProblem:
    """
    What a kernel computes, as its formula takes it: a product, attention, or neither (`matmul` and `attention` are
    `None`), which is vector work, a collective or an AI CPU op by `rule.kind` and `on_cpu`.

    `passes` are vector instructions on each element of a product; `mac_rate` is multiply-accumulates per cycle of one
    cube core for the attention; `assumed` says what the operands did not tell.
    """

    rule: OpClass
    matmul: MatmulProblem | None = None
    passes: float = 0.0
    attention: AttentionProblem | None = None
    mac_rate: float = 0.0
    on_cpu: bool = False
    assumed: str = ""


def problem_of(kernel: Kernel, machine: Machine, *, hot_share: float = 0.0) -> KernelProblem:
    """The problem that `kernel` is on `machine`, with `hot_share` of a product's operands in L2 beforehand."""
    rule = op_class(kernel.type, machine.npu_arch)
    core = str(kernel.attribute("core", "") or "").upper()
    if core in ("AI_CPU", "AICPU", "HOST_CPU"):
        return KernelProblem(rule, on_cpu=True)
    shaped = _product(kernel, rule, machine)
    if shaped.matmul is not None:
        hot_bytes = hot_share * (shaped.matmul.a_total + shaped.matmul.b_total)
        scaled = 0.0 if _scaled_on_the_way(kernel, rule, machine) else vector_passes(rule, machine)
        passes = scaled + _activation(kernel, machine)
        matmul = replace(shaped.matmul, hot_bytes=hot_bytes)
        return KernelProblem(rule, matmul=matmul, passes=passes, assumed=shaped.assumed)
    if rule.kind in ("attention", "attention_gradient"):
        shaped = attention_of(kernel, gradient=rule.kind == "attention_gradient")
        rate = machine.product_rate(kernel.present[0].dtype) if kernel.present else None
        if shaped.attention is not None and rate is not None:
            return KernelProblem(rule, attention=shaped.attention, mac_rate=rate, assumed=shaped.assumed)
    return KernelProblem(rule)


def _product(kernel: Kernel, rule: OpClass, machine: Machine) -> Shaped:
    """The product that a kernel of class `rule` is computed by, none for classes that multiply no matrices."""
    if rule.kind in CONVOLUTIONS:
        return Shaped(convolution_of(as_cube_takes(kernel, machine, blocks_alone=False), machine, rule.kind))
    if rule.kind == "einsum":
        return einsum_of(kernel, machine)
    if rule.kind == "recurrent":
        return recurrent_of(kernel, machine)
    if rule.kind == "chunk_products":
        return chunk_products_of(kernel, machine)
    if rule.kind in ("matmul", "grouped_matmul"):
        kernel = as_cube_takes(kernel, machine, blocks_alone=True)
        return matmul_of(kernel, machine, grouped=rule.kind == "grouped_matmul", added=rule.rule == "added_matmul")
    return Shaped()


def _modelled(
    kernel: Kernel,
    machine: Machine,
    hot: float | None,
    cold_code: bool = False,
    *,
    kept: bool = True,
    clean: bool = False,
) -> KernelCost:
    """
    The cost with the share `hot` of its reads in L2, without any of its vector work's results `kept` there, or in an
    L2 that was `clean` before.
    """
    share = hot or 0.0
    problem = problem_of(kernel, machine, hot_share=share)
    if problem.on_cpu:
        return _on_cpu(kernel, machine)
    if problem.rule.kind == "collective":
        return _collective(kernel, problem.rule, machine)
    chunks = chunk_ns(kernel, machine)
    if chunks is not None:
        return _of_chunks(kernel, problem, machine, chunks)
    if problem.matmul is not None:
        if not problem.matmul.mac_rate:
            return _without_cube(problem.matmul, machine, kernel.block_count)
        blocks = kernel.block_count or (images_dealt(kernel, machine) if problem.rule.kind == "convolution" else 0)
        cost = _product_cost(kernel, problem.matmul, machine, problem.passes, blocks)
        return replace(cost, assumed=problem.assumed) if problem.assumed else cost
    if problem.attention is not None:
        cost = attention_cost(problem.attention, machine, problem.mac_rate, hot_share=share)
        return replace(cost, assumed=problem.assumed)
    if problem.rule.kind == "attention" and in_pages(kernel):
        head = machine.head_ns(machine.cubes, machine.vectors)
        return _launch_alone(head, "attention", "the lengths of the sequences in the pages are not told")
    moved = of_tokens_alone(kernel)
    return _vector(moved, problem.rule, machine, hot, cold_code=cold_code, kept=kept, clean=clean)


def _of_chunks(kernel: Kernel, problem: KernelProblem, machine: Machine, chunks: float) -> KernelCost:
    """A kernel of chunks that take `chunks` nanoseconds one after the other, and the launch."""
    moved = kernel.read_bytes + kernel.written_bytes
    flops = problem.matmul.flops if problem.matmul is not None else 0
    time = chunks + machine.head_ns(machine.cubes, machine.vectors)
    return KernelCost(round(time), VECTOR, {"vector": chunks}, flops, moved, moved, problem.rule.kind)


def _without_cube(problem: MatmulProblem, machine: Machine, blocks: int) -> KernelCost:
    """A product of a type that the cube does not take, by vector units."""
    time = vector_product(problem, machine, blocks)
    pipes = {"vector": time.vector, "mte2": time.copy.read_ns, "mte3": time.copy.write_ns}
    return KernelCost(
        round(time.duration), _bound(pipes, time.duration, machine), pipes, problem.flops, round(time.moved),
        round(time.copy.hbm_bytes), "matmul", assumed="the cube does not take this type: computed by the vector units",
    )  # fmt: skip


def _product_cost(kernel: Kernel, problem: MatmulProblem, machine: Machine, passes: float, blocks: int) -> KernelCost:
    """A product by the cube, behind the copies that vector cores make of operands that it can't take as they lie."""
    copies = layout_copies(kernel, problem, machine)
    if copies is None:
        return matmul_cost(problem, machine, passes=passes, blocks=blocks)
    whole = matmul_cost(problem, machine, passes=passes, blocks=blocks)
    if whole.tiling is not None and whole.tiling.splits > 1 and copies.avoidable:
        return whole
    cost = matmul_cost(copies.problem, machine, passes=passes, blocks=blocks)
    pipes = dict(cost.pipes)
    for name, spent in copies.pipes.items():
        pipes[name] = pipes.get(name, 0.0) + spent
    return replace(
        cost,
        duration_ns=cost.duration_ns + round(copies.duration),
        pipes=pipes,
        gm_bytes=cost.gm_bytes + round(copies.gm_bytes),
        hbm_bytes=cost.hbm_bytes + round(copies.hbm_bytes),
    )


_FIXPIPE_SCALES = frozenset({"uint64", "int64"})


def _scaled_on_the_way(kernel: Kernel, rule: OpClass, machine: Machine) -> bool:
    """
    Whether FixPipe scales sums as it writes them, for which scales have a type of 64 bits, one for all columns or one
    for each (aclnnTransQuantParam), or they stay as they are. Else vector cores do (ops-nn, QuantBatchMatmulV3: results
    of bfloat16, scales of tokens). Grouped products of this kind also gate or quantise, and their int64 operands tell
    where groups end.
    """
    if machine.direct or rule.kind == "grouped_matmul":
        return False
    scales = [operand.dtype for operand in kernel.present[2:]]
    sums = [operand.dtype for operand in kernel.outputs[:1]]
    return any(dtype in _FIXPIPE_SCALES for dtype in scales) or sums == ["int32"]


def _activation(kernel: Kernel, machine: Machine) -> float:
    """Vector instructions of an activation fused behind a matmul, from its attribute."""
    name = kernel.attribute("activation")
    return vector_passes(op_class(name), machine) if isinstance(name, str) and name not in ("", "none") else 0.0


def matmul_cost(
    problem: MatmulProblem,
    machine: Machine,
    *,
    passes: float = 0.0,
    blocks: int = 0,
    tiling: Tiling | None = None,
) -> KernelCost:
    """
    Cost of a matmul with its best tiling, or with `tiling`; `passes` vector instructions are spent on each element of
    the result (dequantisation, activation), for which it passes through GM where cube and vector share no buffer.
    """
    cores = min(blocks, machine.cubes) if blocks else None
    found = given(problem, machine, tiling, cores=cores) if tiling else search_tilings(problem, machine, cores=cores)
    return matmul_cost_of(found, found.chosen(machine), machine, passes=passes)


def matmul_cost_of(found: Search, index: int, machine: Machine, *, passes: float = 0.0) -> KernelCost:
    """Cost of candidate `index` of a search."""
    columns, problem = found.columns, found.problem
    pipes = {name: float(columns[name][index]) for name in ("cube", "mte1", "mte2", "fixpipe", "scalar")}
    time, gm, hbm = (float(columns[name][index]) for name in ("time", "gm_bytes", "hbm_bytes"))
    if passes:
        elements = problem.batch * problem.m * problem.n
        rate = machine.element_lanes(4) * machine["vector_efficiency"] * machine.vectors * machine.vector_clock_hz
        pipes["vector"] = elements * passes / rate * 1e9
        if not machine.direct:
            exchange = 8.0 * elements
            gm += exchange
            pipes["mte2"] += exchange / machine.l2_read_per_second * 1e9
        parts = (time, pipes["vector"], pipes["mte2"] if not machine.direct else 0.0)
        waits = machine["fused_takes_turns"]
        time = time + pipes["vector"] if waits else overlapped(parts, machine["pipe_norm"])
    if problem.widening:
        # Vector cores make factors of weights block by block while the cube multiplies those before.
        weights = problem.b_batch * problem.k * problem.n
        rate = machine.element_lanes(4) * machine["vector_efficiency"] * machine.vectors * machine.vector_clock_hz
        pipes["vector"] = pipes.get("vector", 0.0) + weights * problem.widening / rate * 1e9
        if not machine.direct:
            factors = weights * problem.a_bytes
            gm += 2 * factors
            pipes["mte3"] = factors / machine.l2_write_per_second * 1e9
            pipes["mte2"] += factors / machine.l2_read_per_second * 1e9
        time = overlapped((time, *(pipes.get(name, 0.0) for name in ("vector", "mte2", "mte3"))), machine["pipe_norm"])
    if (passes or problem.widening) and not machine.direct:
        time += _vector_cores_beside(float(columns["blocks"][index]), passes, machine)
    bound = _bound(pipes, time, machine)
    return KernelCost(
        duration_ns=round(time),
        bound=bound,
        pipes=pipes,
        flops=problem.flops,
        gm_bytes=round(gm),
        hbm_bytes=round(hbm),
        kind="matmul",
        tiling=found.tiling(index),
    )


def _vector_cores_beside(blocks: float, passes: float, machine: Machine) -> float:
    """
    Nanoseconds that a product on `blocks` cube cores takes longer because vector cores run beside them: they are
    started as well, and what they do with the last tile comes after it, step by step, as nothing is doubled there
    (ops-nn, quant_batch_matmul_v3_bf16.h and _pertoken.h): a way in and out of a core, and each of its instructions.
    """
    started = machine["head_ns_per_vector_core"] * blocks * machine.vectors / machine.cubes
    last = machine["core_start_ns"] + machine["instruction_start_ns"] * passes if passes else 0.0
    return started + last


def attention_cost(
    problem: AttentionProblem, machine: Machine, mac_rate: float, *, hot_share: float = 0.0
) -> KernelCost:
    """Cost of an attention kernel with the best blocks of its class; `hot_share` of its operands is in L2."""
    time = attention_time(problem, machine, mac_rate, hot_share=hot_share)
    return attention_cost_of(problem, time, machine)


def attention_cost_of(problem: AttentionProblem, time: AttentionTime, machine: Machine) -> KernelCost:
    """Cost from a finished search of blocks."""
    pipes = {name: getattr(time, name) for name in ("cube", "mte1", "mte2", "fixpipe", "vector")}
    return KernelCost(
        duration_ns=round(time.duration),
        bound=_bound(pipes, time.duration, machine),
        pipes=pipes,
        flops=problem.flops,
        gm_bytes=round(time.gm_bytes),
        hbm_bytes=round(time.hbm_bytes),
        kind="attention",
    )


def _vector(
    kernel: Kernel,
    rule: OpClass,
    machine: Machine,
    hot_share: float | None,
    *,
    cold_code: bool,
    kept: bool,
    clean: bool,
) -> KernelCost:
    if not kernel.operands:
        head = machine.head_ns(0, min(max(kernel.block_count, 1), machine.vectors))
        return _launch_alone(head, rule.kind, "no operand is known")
    work = vector_work(kernel, rule, machine)
    time = vector_time(
        work,
        machine,
        code_ns=machine["code_fetch_ns_per_vector_core"] * work.cores if cold_code else 0.0,
        hot=None if hot_share is None else hot_share * work.read,
        kept=None if kept else 0.0,
        clean=clean,
        double_buffer=not takes_turns(kernel.type, machine.npu_arch)
        and (rule.kind != "rows" or _side_by_side(kernel, rule, work, machine)),
    )
    return _vector_cost(time, rule, machine)


def _launch_alone(head_ns: float, kind: str, assumed: str, moved: int = 0) -> KernelCost:
    """The cost of which only the launch is known."""
    return KernelCost(round(head_ns), LAUNCH, {}, 0, moved, moved, kind, assumed=assumed, known=False)


def _side_by_side(kernel: Kernel, rule: OpClass, work: VectorWork, machine: Machine) -> bool:
    """
    Whether rows pass pipes that run side by side.

    A row's statistics have to be known before the row is passed over again: its pipes take turns, unless rows are so
    short that many are worked on at once, and no sum over rows is carried along (gradients of norms). Or the library
    reads the next rows meanwhile (`rows_overlap`), as where registers keep what is known of a row.
    """
    first = kernel.present[0] if kernel.present else None
    if first is not None and first.shape and rows_overlap(kernel.type, logical_row(first), first.dtype):
        return True
    together = work.row_elements <= machine["short_row_elements"] or bool(machine["keeps_registers"])
    return rule.rule != "norm_gradient" and work.row_elements > 0 and together


def _vector_cost(time: VectorTime, rule: OpClass, machine: Machine) -> KernelCost:
    moved = time.copy
    pipes = {"vector": time.vector, "mte2": moved.read_ns, "mte3": moved.write_ns}
    if time.work.read and time.work.written:
        # Reads and writes share the way to GM: the reading pipe waits for both.
        pipes["mte2"] = max(moved.together_ns, moved.read_ns)
    return KernelCost(
        duration_ns=round(time.duration),
        bound=_bound(pipes, time.duration, machine),
        pipes=pipes,
        flops=round(time.work.elements),
        gm_bytes=round(time.work.read + time.work.written),
        hbm_bytes=round(moved.hbm_bytes),
        kind=rule.kind,
        assumed="" if rule.rule != "unknown" else "op type not in the table: taken as elementwise",
    )


def _bound(pipes: Mapping[str, float], duration: float, machine: Machine) -> str:
    """What limits a kernel: the launch where it is most of the time, else the slowest group of pipes."""
    groups = {
        CUBE: max(pipes.get("cube", 0.0), pipes.get("mte1", 0.0)),
        VECTOR: pipes.get("vector", 0.0),
        MEMORY: max(pipes.get("mte2", 0.0), pipes.get("mte3", 0.0), pipes.get("fixpipe", 0.0)),
    }
    name = max(groups, key=lambda group: groups[group])
    return LAUNCH if groups[name] < machine["launch_bound_share"] * (duration - groups[name]) else name


def _on_cpu(kernel: Kernel, machine: Machine) -> KernelCost:
    moved = kernel.read_bytes + kernel.written_bytes
    time = machine["ai_cpu_ns"] + moved / machine["ai_cpu_bytes_per_second"] * 1e9
    return KernelCost(round(time), LAUNCH, {}, 0, moved, moved, "ai_cpu", assumed="an AI CPU op of ordinary size")


_ALIKE = 0.9
"""Share of a link's rate from which another source counts as saying the same."""
_SERVER_RANKS = 8
"""Chips of an A2 server, which HCCS joins one to one."""
_EXPERT_LINKS = {"moe_dispatch": "deepep_dispatch", "moe_combine": "deepep_combine"}


def _collective(kernel: Kernel, rule: OpClass, machine: Machine) -> KernelCost:
    payload = float(max(kernel.read_bytes, kernel.written_bytes))
    ranks = kernel.attribute("rank_size") or kernel.attribute("group_size")
    links = {link.name: link for link in machine.interconnect}
    link = links.get(_EXPERT_LINKS.get(rule.rule, "")) or links.get("ub") or links.get("hccs")
    head = machine.head_ns(0, 1)
    assumed = ""
    if not isinstance(ranks, int):
        ranks, assumed = 8, "the number of ranks is not known: 8"
    # Chips of a server have a link to each other one; beyond a server, and over a switch, one link carries all.
    mesh = int(ranks) - 1 if link is not None and link.name == "hccs" and int(ranks) <= _SERVER_RANKS else 1
    time = (
        collective_time(rule.rule, payload, int(ranks), link, mesh_links=max(mesh, 1), head_ns=head)
        if link is not None and payload
        else None
    )
    if time is None:
        return _launch_alone(head, rule.kind, "bytes or link are not known: the launch alone", round(payload))
    return KernelCost(
        round(time.duration), LINK, {}, 0, round(payload), round(payload), rule.kind,
        assumed="; ".join(text for text in (assumed, _over(time.algorithm, link)) if text),
    )  # fmt: skip


def _over(algorithm: str, link: Link | None) -> str:
    """The way of a collective, and how much longer it takes where another source's rate of the link holds."""
    if link is None:
        return algorithm
    rates = [float(other.value) for other in link.also if isinstance(other.value, int | float)]
    rate, least = link.bytes_per_second or 0.0, min(rates, default=0.0)
    unsure = f"; up to {rate / least:.1f} times as long, as another source has it" if 0 < least < rate * _ALIKE else ""
    return f"{algorithm} over {link.name}{unsure}"
