"""
Vector kernels: elementwise work, norms, reductions, copies, gathers, optimisers.

Each streams its operands through UB in double-buffered pieces; the time is that of GM traffic and of vector
instructions side by side, plus the launch.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, prod

from memplan.cost.kernel import (
    Kernel,
    OpClass,
    Operand,
    index_rows,
    one_row_at_a_time,
    reads_rows_behind_sum,
    reduced_row,
    row_steps,
    takes_all_cores,
    writes_cache,
)
from memplan.cost.machine import Machine
from memplan.cost.overlap import overlapped
from memplan.cost.runs import BLOCK_BYTES, Runs, contiguous_runs, relayout_of, turned_bytes
from memplan.cost.tiling import MatmulProblem
from memplan.cost.transfer import Copy, CopyTime, copy_time, dirty_in_l2
from memplan.cost.windows import Windows, windows_of
from memplan.graph.model import DTYPE_BITS

_PIECES = 2
"""Copies of every piece in UB."""
_HALF = 2
"""Bytes of a half."""
_LEAST_SORTED, _MERGED_LISTS = 32, 4
"""Elements that the vector unit sorts at once, and sorted lists that it merges at once."""
_BLOCK, _BLOCKED_DIMS = 16, 5
"""Channels that lie together in an image of blocks of channels (NC1HWC0), and its dimensions."""


_PIECEWISE = frozenset({"vector", "optimizer", "fill", "slice", "gather", "transpose"})
"""Kinds whose instructions go over a piece each, one after the other."""


@dataclass(frozen=True, slots=True)
class VectorWork:
    """
    What a vector kernel does: bytes over GM, instructions, and how it is cut.

    `issued_ns` is what starting the instructions of the busiest core takes, however little they do. `stages` come
    behind what all cores do side by side, each when all of them are done, with `merged` elements of one core in all.
    Each row starts `row_starts` instructions that wait for each other. Of what is read, `again` bytes are read once
    more, from L2, and `over` bytes are written over. Each piece starts `piece_starts` instructions anew; where these
    are none the efficiency of the vector unit stands for it. Where rows are read `behind_sum` of the one before, the
    first half of their instructions waits for them.
    """

    read: float
    written: float
    elements: float
    instructions: float
    rows: float
    row_elements: float
    runs: Runs
    cores: int
    piece: float
    pieces: float
    steps: float
    issued_ns: float
    stages: int = 0
    merged: float = 0.0
    row_starts: float = 1.0
    again: float = 0.0
    piece_starts: float = 0.0
    over: float = 0.0
    behind_sum: bool = False


@dataclass(frozen=True, slots=True)
class VectorTime:
    """Nanoseconds by pipe and in all."""

    duration: float
    vector: float
    copy: CopyTime
    work: VectorWork


def vector_passes(rule: OpClass, machine: Machine) -> float:
    """Vector instructions per element of `rule`, slow ones counted by what they take."""
    return rule.passes + rule.transcendentals * machine["transcendental_cycles"]


def vector_work(kernel: Kernel, rule: OpClass, machine: Machine) -> VectorWork:
    """Bytes and instructions of `kernel` by its class."""
    largest = max(kernel.operands, key=lambda operand: operand.nbytes, default=Operand((), "float32"))
    read, written, run = _traffic(kernel, rule)
    joined = bool(machine["short_runs_join"])
    runs = Runs(read=run) if run else contiguous_runs(kernel, rule, joined=joined)
    turned = turned_bytes(kernel, rule) if joined else 0.0
    if joined and rule.kind == "slice":
        # Rows that are turned are read whole; what the gradient of a slice is set into is written alone.
        read = float(kernel.read_bytes) if turned else min(read, float(kernel.read_bytes))
    elif joined and rule.rule == "scatter":
        read, written, runs = _added_rows(kernel)
    windows = windows_of(kernel) if rule.kind == "pooling" else None
    count = _elements(kernel, rule, windows)
    width, passes, steps = _instructions(kernel, rule, machine, count, largest)
    piecewise = rule.kind in _PIECEWISE and machine["piece_cycles"] > 0
    if machine["keeps_registers"]:
        # One function does all of them to a piece.
        steps = min(steps, 1.0)
    lanes = machine.element_lanes(width)
    if rule.kind == "pooling":
        # Neighbouring pixels of the result have taps in common, blocks of channels have none.
        lanes = min(lanes, _BLOCK)
    rows = _rows_alone(kernel, rule, largest)
    row_starts = _row_starts(kernel, largest, steps, machine)
    cut = _cut(kernel, rule, machine, largest, rows if row_starts > 1 else 0.0, windows)
    operands = max(len([op for op in kernel.operands if op.count * 4 >= count]), 1)
    room = machine.ub / (_PIECES * operands) / (2 if passes > 4 else 1)
    if piecewise:
        # What is computed with lies there as wide as it is computed.
        room *= min(largest.nbytes / max(largest.count, 1) / width, 1.0)
    piece = max(min(room, (read + written) / operands / cut.parts), 32.0)
    return VectorWork(
        read=read,
        written=written,
        elements=count,
        instructions=count * passes / lanes / (1.0 if piecewise else machine["vector_efficiency"])
        + turned / BLOCK_BYTES,
        rows=rows,
        row_elements=largest.count / rows if rows else 0.0,
        runs=runs,
        cores=cut.cores,
        piece=min(piece, runs.read) if runs.read else piece,
        pieces=max((read + written) / operands / cut.cores / piece, 1.0),
        steps=steps,
        issued_ns=cut.issued_ns,
        stages=cut.stages,
        merged=cut.merged,
        row_starts=row_starts,
        again=_read_again(kernel, rule, machine),
        piece_starts=steps if piecewise else 0.0,
        over=min(read, written) if rule.kind == "optimizer" else 0.0,
        behind_sum=row_starts > 1 and reads_rows_behind_sum(kernel.type),
    )


_READ_THREE_TIMES = frozenset({"softmax", "masked_softmax", "log_softmax", "softmax_loss"})
"""Rules of rows that are read for the largest element, for the sum, and for the result."""
_ROW_BYTES = 16
"""Bytes of UB that an element of a row takes that is kept there: 12,288 in 192 KB (ops-nn, rms_norm_tiling.cpp)."""


def _read_again(kernel: Kernel, rule: OpClass, machine: Machine) -> float:
    """
    Bytes of rows that don't fit into UB whole, which are read anew for what is known of them only at their end.

    A softmax reads them for the largest, the sum and the result, a norm for the sum and the result (ops-nn,
    rms_norm_split_d.h).
    """
    if rule.kind != "rows":
        return 0.0
    long = [
        each
        for each in kernel.present
        if each.layout == "ND" and each.shape and _ROW_BYTES * each.shape[-1] > machine.ub
    ]
    return float(sum(each.nbytes for each in long) * (2 if rule.rule in _READ_THREE_TIMES else 1))


def _elements(kernel: Kernel, rule: OpClass, windows: Windows | None) -> float:
    """Elements on which the instructions of a class are carried out; a byte of a mask has eight."""
    if rule.rule == "random":
        return float(sum(operand.count * (8 if operand.dtype == "uint8" else 1) for operand in kernel.outputs) or 1)
    if windows is not None:
        return float(windows.count)
    if rule.rule == "scatter" and kernel.present and kernel.outputs:
        return float(max((operand.count for operand in _scattered(kernel)), default=1))
    given = rule.kind in ("gather", "slice", "pooling") or rule.rule == "swiglu_quant"
    return float(max((operand.count for operand in (kernel.outputs if given else kernel.operands)), default=1))


def _scattered(kernel: Kernel) -> tuple[Operand, ...]:
    """What a kernel brings to the rows that it updates: all operands but those rows themselves where they are given."""
    in_place = kernel.present[0].shape == kernel.outputs[0].shape
    return kernel.present[1:] if in_place else kernel.present


def _instructions(
    kernel: Kernel, rule: OpClass, machine: Machine, count: float, largest: Operand
) -> tuple[int, float, float]:
    """Bytes that an element takes while it is computed with, its vector instructions, and how many start in turn."""
    width = max((_compute_width(operand.dtype) for operand in kernel.operands if operand.count * 4 >= count), default=4)
    passes, steps = vector_passes(rule, machine), rule.passes + rule.transcendentals
    if rule.kind == "reduction":
        steps += log2(64)
        if width == _HALF and any(operand.dtype == "float32" for operand in kernel.outputs):
            # Sums are carried in the type of the result: each element is cast to it first.
            width, passes, steps = 2 * _HALF, passes + 1, steps + 1
    if rule.rule == "swiglu_quant" and kernel.present and kernel.present[0].dtype == "int32":
        # Each half by the factors of its columns and of its row.
        passes, steps = passes + 4, steps + 4
    if rule.widens or rule.rule == "swiglu_quant":
        # Norms and softmax compute in float32 whatever they are given.
        width = max(width, 4)
    if rule.kind == "sort":
        if rule.rule == "top_k":
            # What is sorted are pairs of a float32 and where it was, in 32 bits each.
            width = 4
        passes *= max(log2(max(largest.shape[-1] if largest.shape else 1, 2)), 1.0)
    if passes and count and "cast" not in kernel.type.casefold():
        # What the vector unit can't add as it is stored is cast on the way in and out.
        cast = ("bfloat16", "float16") if rule.widens else ("bfloat16",)
        casts = [min(op.count / count, 1.0) for op in kernel.operands if op.dtype in cast and op.count > 1]
        passes, steps = passes + sum(casts), steps + len(casts)
    if width == 8 and passes:
        # 64-bit integers are computed in 32-bit halves.
        passes, steps = passes * 4, steps * 4
    return width, passes, steps


def _rows_alone(kernel: Kernel, rule: OpClass, largest: Operand) -> float:
    """Rows that a norm or a sum goes along, 0 for classes without."""
    if rule.kind not in ("rows", "reduction") or not largest.shape:
        return 0.0
    rows = largest.count / reduced_row(kernel.type, largest) if largest.count else 0.0
    if rule.kind == "reduction" and kernel.outputs and kernel.outputs[0].count < rows:
        rows = float(kernel.outputs[0].count)
    return rows


@dataclass(frozen=True, slots=True)
class _Cut:
    """
    How a kernel is dealt out: its cores, the parts that its bytes come to, what the transfers or instructions of the
    busiest core take to start, and the stages behind what all cores do side by side.
    """

    cores: int
    parts: int
    issued_ns: float = 0.0
    stages: int = 0
    merged: float = 0.0


def _cut(
    kernel: Kernel, rule: OpClass, machine: Machine, largest: Operand, alone: float, windows: Windows | None
) -> _Cut:
    """
    The cut of a kernel, of which `alone` rows are worked on one at a time: by the rule of its library where one is
    known, else as far as a core gets enough bytes. Cores that a profile told are taken.
    """
    told, most = kernel.block_count, machine.vectors
    relayout = relayout_of(kernel, machine)
    if rule.rule == "top_k" and largest.count:
        cores = told or min(most, ceil(largest.count / _LEAST_SORTED))
        stages, merged = _merges(kernel, largest, cores)
        return _Cut(cores, cores, stages=stages, merged=merged)
    if relayout is not None:
        return _Cut(relayout.cores, relayout.cores, relayout.cycles * 1e9 / machine.vector_clock_hz)
    if told:
        cores = told
    elif alone:
        cores = ceil(alone / ceil(alone / most))
    elif takes_all_cores(kernel.type):
        cores = most
    else:
        cores = min(most, max(1, int(-(-largest.nbytes // machine["bytes_per_core"]))))
    cores = min(cores, _most_cores(kernel, rule, machine))
    if not told:
        cores = min(cores, _cores_of_whole_rows(kernel, rule, largest))
    if (turns := row_steps(kernel.type)) and kernel.present and kernel.present[0].shape:
        each = ceil(_rows(kernel.present[0]) / cores)
        return _Cut(cores, cores, each * turns * machine["instruction_start_ns"])
    if rule.rule == "copy" and writes_cache(kernel.type) and kernel.present:
        dealt, issued = _token_copies(kernel, machine)
        return _Cut(dealt, cores, issued)
    if machine["short_runs_join"] and _pads_rows(kernel):
        # Each row comes in and goes out before the next one (CANN 8.1, impl/pad_d.py, whose loops are serial).
        rows = kernel.outputs[0].count / kernel.outputs[0].shape[-1]
        return _Cut(cores, cores, ceil(rows / cores) * 2 * machine["instruction_start_ns"])
    # The way back adds to the windows one after the other on every generation.
    unfolds = machine["windows_unfold"] and rule.rule == "max_pooling"
    if windows is not None and not unfolds:
        return _Cut(cores, cores, windows.instructions(cores) * machine["instruction_start_ns"])
    return _Cut(cores, cores)


def _pads_rows(kernel: Kernel) -> bool:
    """Whether a padding makes rows longer that are no blocks of channels."""
    if not kernel.type.startswith("Pad") or not kernel.present or not kernel.outputs:
        return False
    source, result = kernel.present[0].shape, kernel.outputs[0].shape
    return len(source) == len(result) > 0 < source[-1] < result[-1]


def _token_copies(kernel: Kernel, machine: Machine) -> tuple[int, float]:
    """
    Cores among which tokens are dealt out that are written into caches, and nanoseconds of the busiest one's transfers:
    of each token what goes into a cache is read and written, each transfer behind the one before.
    """
    tokens = max(kernel.present[0].shape[0], 1) if kernel.present[0].shape else 1
    cores = kernel.block_count or min(tokens, machine.vectors)
    transfers = 2 * max(len(kernel.outputs), 1)
    return cores, ceil(tokens / cores) * transfers * machine["instruction_start_ns"]


def _row_starts(kernel: Kernel, largest: Operand, steps: float, machine: Machine) -> float:
    """
    Instructions that a row starts on its own: one where rows share them, all of the definition's where a kernel works
    on one row at a time, which is halved until a register holds what is left to add up.
    """
    row = reduced_row(kernel.type, largest) if largest.shape else 1
    if machine["keeps_registers"] or not one_row_at_a_time(kernel.type, row, machine.family):
        return 1.0
    return steps + max(log2(row / _SUMMED_LANES), 0.0)


def _merges(kernel: Kernel, rows: Operand, cores: int) -> tuple[int, float]:
    """
    Stages in which sorted pieces of each row are merged, four lists at a time, and the elements that one core merges.

    Of each list no more is kept than the kernel gives.
    """
    length = max(rows.shape[-1], 1) if rows.shape else 1
    lists = min(cores * length // max(rows.count, 1), ceil(length / _LEAST_SORTED))
    kept = kernel.outputs[0].shape[-1] if kernel.outputs and kernel.outputs[0].shape else length
    size, stages, merged = length / max(lists, 1), 0, 0.0
    while lists > 1:
        together = min(lists, _MERGED_LISTS)
        size = min(size, kept)
        merged += together * size
        size, lists, stages = together * size, ceil(lists / _MERGED_LISTS), stages + 1
    return stages, merged


def _most_cores(kernel: Kernel, rule: OpClass, machine: Machine) -> int:
    """All cores, but a sum over images and pixels of each channel keeps every block of channels on one of them."""
    image = kernel.present[0] if kernel.present else None
    if rule.kind != "reduction" or image is None or image.layout != "NC1HWC0" or len(image.shape) != _BLOCKED_DIMS:
        return machine.vectors
    blocks, channels = image.shape[1], image.shape[1] * image.shape[4]
    by_channel = kernel.outputs and kernel.outputs[0].count <= channels
    return min(machine.vectors, max(blocks, 1)) if by_channel else machine.vectors


def _cores_of_whole_rows(kernel: Kernel, rule: OpClass, largest: Operand) -> int:
    """The most cores that get whole rows, where none is divided: of norms, of softmax, of where the largest is."""
    rows = largest.count / reduced_row(kernel.type, largest) if largest.shape else 1.0
    together = index_rows(kernel.type)
    if together and kernel.outputs and kernel.outputs[0].count == rows:
        return max(ceil(rows / together), 1)
    return max(ceil(rows), 1) if rule.kind == "rows" and largest.layout == "ND" else max(largest.count, 1)


def _compute_width(dtype: str) -> int:
    """Bytes an element takes while it is computed with: bfloat16 as float32, small integers as halves."""
    if dtype == "bfloat16":
        return 4
    return max(DTYPE_BITS.get(dtype, 32) // 8, 2)


def _traffic(kernel: Kernel, rule: OpClass) -> tuple[float, float, float]:
    """Bytes read, bytes written, and bytes of a contiguous run where runs are short (0: as long as pieces)."""
    read, written = float(kernel.read_bytes), float(kernel.written_bytes)
    if rule.kind == "optimizer" and not written and kernel.present:
        # Updated in place: everything of the parameter's shape except the gradient.
        same = [op for op in kernel.present if op.shape == kernel.present[0].shape]
        written = float(sum(op.nbytes for op in same[:-1]) if len(same) > 1 else kernel.present[0].nbytes)
    if rule.kind == "fill":
        if not kernel.outputs:
            # What is given is cleaned where it lies.
            return 0.0, read, 0.0
        return min(read, written) if rule.rule != "fill" else 0.0, written, 0.0
    if rule.kind == "slice":
        return written, written, 0.0
    if rule.kind == "gather" and rule.rule == "gather" and kernel.present:
        others = sum(op.nbytes for op in kernel.present[1:])
        run = kernel.outputs[0].nbytes / max(_rows(kernel.outputs[0]), 1) if kernel.outputs else 0.0
        return min(read, written + others), written, run
    if rule.kind == "gather" and kernel.present and kernel.outputs:
        # Only the rows that are updated move, read and written.
        updates = float(sum(operand.nbytes for operand in _scattered(kernel)))
        if 0 < updates < written:
            return 2 * updates, updates, 0.0
    return read, written, 0.0


def _added_rows(kernel: Kernel) -> tuple[float, float, Runs]:
    """
    Bytes that a scatter reads and writes where memory itself adds what is written, and its runs.

    Each row that is added is a transfer of its own, whatever there was (CANN 8.1, impl/unsorted_segment_sum_d.py,
    `set_atomic_add`; zeros before are a kernel of their own).
    """
    table = kernel.outputs[0] if kernel.outputs else kernel.present[0]
    added = [each for each in kernel.present if each.dtype == table.dtype and each.shape != table.shape]
    rows = max(added, key=lambda each: each.count, default=table)
    indices = sum(each.nbytes for each in kernel.present if each.dtype != table.dtype)
    run = rows.nbytes / max(rows.count, 1) * prod(table.shape[1:])
    return rows.nbytes + float(indices), float(rows.nbytes), Runs(written=run)


def _rows(operand: Operand) -> float:
    return operand.count / max(operand.shape[-1], 1) if operand.shape else 1.0


def vector_time(
    work: VectorWork,
    machine: Machine,
    *,
    hot: float | None = None,
    kept: float | None = None,
    double_buffer: bool = True,
    code_ns: float = 0.0,
    clean: bool = False,
) -> VectorTime:
    """
    Time of `work`; `hot` bytes of its reads are in L2 (none by default) and `kept` of its writes stay there. `code_ns`
    is what its cores wait for their code, none where it ran just before.

    Writes go into L2; by default they stay as far as all that the kernel moves fits there, the rest is written back
    while it runs. Where L2 was `clean` before, the last that passed through it stays: among others, what those wrote
    has to make room.
    """
    if clean and work.written:
        stays = dirty_in_l2(work.read - work.over, work.written, machine.l2) / work.written
    else:
        stays = machine.stays_in_l2(work.read + work.written)
    copy = Copy(
        read=work.read + work.again,
        written=work.written,
        hot=min(work.read, hot or 0.0) + work.again,
        kept=min(work.written, work.written * stays if kept is None else kept),
        instruction=work.piece,
        row=work.runs.read or work.piece,
        stride=work.runs.read,
        written_run=work.runs.written,
        apart=work.runs.apart,
        clean=clean,
    )
    moved = copy_time(copy, machine, work.cores)
    cycle = 1e9 / machine.vector_clock_hz / work.cores
    vector = (work.instructions + work.rows * work.row_starts * machine["row_cycles"]) * cycle
    # What the instructions of the first piece wait for is counted below.
    vector += work.piece_starts * (work.pieces - 1) * machine["piece_cycles"] * cycle * work.cores
    vector = max(vector, work.issued_ns)
    in_turn = moved.read_ns + moved.write_ns + vector
    if work.behind_sum:
        each = ceil(work.rows / work.cores)
        ahead = vector / 2 + overlapped((moved.read_ns, vector / 2), machine["pipe_norm"])
        # Only the first row of a core comes in alone; each waits for its way in and for a scalar.
        busy = max(ahead + (in_turn - ahead) / each, moved.together_ns) + 2 * each * machine["instruction_start_ns"]
    elif double_buffer:
        busy = overlapped((moved.together_ns, vector), machine["pipe_norm"])
        # The first piece is read before, and the last one written after, anything runs beside it.
        busy += (in_turn - max(moved.read_ns, moved.write_ns, vector)) / work.pieces
    else:
        busy = max(in_turn, moved.together_ns)
    start = machine["instruction_start_ns"] * work.steps + code_ns
    if work.stages:
        # All cores are waited for as they are when a kernel starts.
        start += work.stages * machine["head_ns_per_vector_core"] * work.cores
        start += work.merged * machine["merge_cycles"] * 1e9 / machine.vector_clock_hz
    return VectorTime(busy + start + machine.head_ns(0, work.cores), vector, moved, work)


_WORD, _SUMMED_LANES = 4, 64
"""Bytes of an element, and how many of them one reduction adds up, halving them."""


@dataclass(frozen=True, slots=True)
class VectorProduct:
    """Nanoseconds of a product by vector units, on how many cores, and the bytes that they move."""

    duration: float
    vector: float
    copy: CopyTime
    cores: int
    moved: float


def vector_product(problem: MatmulProblem, machine: Machine, blocks: int = 0) -> VectorProduct:
    """
    A product of a type that the cube does not take, on `blocks` cores, or as many as the library uses.

    Its kernels for types of 4 bytes (CANN 8.1, impl/matmul_vector.py) make one row of the result at a time, for which
    all of B is read again: for each k a multiplication and an addition along N, or, where K is contiguous, for each n a
    multiplication and a sum along K. The buffers of A and B are doubled, not the result's. Of others nothing is known:
    they take all cores and read each operand once.
    """
    known = problem.a_bytes == problem.b_bytes == _WORD
    cores = min(blocks, machine.vectors) if blocks else _cores_of_rows(problem, machine) if known else machine.vectors
    along_k = problem.b_run == "k"
    passes = 1 + log2(_SUMMED_LANES) if known and along_k else 2
    rate = machine.element_lanes(4) * machine["vector_efficiency"] * cores * machine.vector_clock_hz
    vector = problem.flops / 2 * passes / rate * 1e9
    if known:
        started = 2 * problem.batch * problem.m * (problem.n if along_k else problem.k) / cores
        vector = max(vector, started * machine["instruction_start_ns"])
    again = problem.b_total * (problem.m - 1) if known else 0.0
    kept = problem.b_total / problem.b_batch <= machine["l2_kept_share"] * machine.l2
    read = problem.a_total + problem.b_total + again
    moved = copy_time(Copy(read, problem.c_total, hot=again if kept else 0.0), machine, cores)
    busy = overlapped((moved.read_ns, vector), machine["pipe_norm"]) + moved.write_ns
    return VectorProduct(busy + machine.head_ns(0, cores), vector, moved, cores, read + problem.c_total)


def _cores_of_rows(problem: MatmulProblem, machine: Machine) -> int:
    """
    Rows are dealt out in equal parts, to one core alone if they are few or what a core writes is no whole blocks.

    Of many products it is they that are dealt out (CANN 8.1, impl/batch_matmul_vector.py).
    """
    rows = problem.m
    if problem.batch > 1:
        return ceil(problem.batch / ceil(problem.batch / machine.vectors)) if problem.n % 8 == 0 else 1
    cores = next((count for count in range(machine.vectors, 0, -1) if rows % count == 0), 1)
    whole = problem.n * rows // cores % 16 == 0 if problem.a_run == "m" else problem.n % 8 == 0
    return cores if rows >= machine.vectors and whole else 1
