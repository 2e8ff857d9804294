"""Plans small enough to reason about, and a strategy that makes any valid one."""

from __future__ import annotations

from hypothesis import strategies as st

from memplan.schema import (
    Bound,
    LinkUse,
    OnChipBuffer,
    OnChipPlan,
    OnChipUse,
    Placement,
    Plan,
    PlannedAttribute,
    PlannedKernel,
    PlannedOp,
    PlannedOperand,
    PlannedTensor,
    PlannedTiling,
    PlanOrigin,
    Source,
    Tier,
    TierUse,
    Transfer,
)
from memplan.schema.planned_tiling import PipeBusy, PlannedSentence, Stage, TileSize

MIB = 1024**2
_BOUNDS = (Bound.CUBE, Bound.HBM, Bound.VECTOR, Bound.LAUNCH)
_TYPES = ("MatMul", "Add", "ReduceSum", "Mul")


def layered_plan(layers: int = 6, *, op_ns: int = 50_000, size: int = 4 * MIB, transfers: bool = False) -> Plan:
    """
    A forward and backward pass: op i of `2 * layers` writes a tensor that op `2 * layers - 1 - i` reads last.

    Each forward op also has a weight that stays. With `transfers`, the first activation spends its idle time on the
    host, and the op that needs it waits for nothing.
    """
    count = 2 * layers
    ops, tensors, placements = [], [], []
    for index in range(count):
        scope = "Default" if index < layers else "Gradients"
        ops.append(
            PlannedOp(
                index=index,
                name=f"{scope}/net-Net/{index}-Block/{_TYPES[index % 4]}-op{index}",
                type=_TYPES[index % 4],
                stream=0,
                start_ns=index * op_ns,
                duration_ns=op_ns,
                stalled_ns=0,
                bound=_BOUNDS[index % 4],
                flops=10**9 + index,
                gm_bytes=3 * size,
                source=f"net.py:{index + 1}",
                kernel=index % 4,
                hot_share=0.25,
            )
        )
    moved: list[Transfer] = []
    for index in range(layers):
        last = count - 1 - index
        weight = PlannedTensor(2 * index, f"w{index}", (1024, size // 4096), "float32", "ND", size, "weight", True, 0,
                               count, None, (index,))  # fmt: skip
        activation = PlannedTensor(2 * index + 1, f"a{index}", (size // 4096, 1024), "float32", "ND", size,
                                   "activation", False, index, last + 1, index, (index, last))  # fmt: skip
        tensors += [weight, activation]
        placements.append(Placement(weight.index, Tier.HBM, 2 * index * size, size, 0, count))
        offset = (2 * index + 1) * size
        if transfers and index == 0:
            away, back = 2, last - 1
            placements += [
                Placement(activation.index, Tier.HBM, offset, size, 0, away),
                Placement(activation.index, Tier.HOST, None, size, away, back),
                Placement(activation.index, Tier.HBM, offset, size, back, last + 1),
            ]
            moved = [
                Transfer(activation.index, Tier.HBM, Tier.HOST, size, "d2h", op_ns, 2 * op_ns, 0, None),
                Transfer(activation.index, Tier.HOST, Tier.HBM, size, "h2d", back * op_ns, last * op_ns, None, last),
            ]
        else:
            placements.append(Placement(activation.index, Tier.HBM, offset, size, index, last + 1))
    peak = 2 * layers * size
    sheet = Source("data sheet")
    return Plan(
        origin=PlanOrigin("net", "net.mindir", "0" * 64, "MindSpore 2.10.0"),
        chip="Ascend910B3",
        memplan_version="0.1.0",
        ops=tuple(ops),
        tensors=tuple(tensors),
        placements=tuple(placements),
        transfers=tuple(moved),
        tiers=(
            TierUse(Tier.HBM, 60 * 1024 * MIB, 4 * 1024 * MIB, layers * size, peak, layers, peak, "bytes alive"),
            TierUse(Tier.HOST, None, 0, 0, size if transfers else 0, 2 if transfers else None, 0, "none"),
        ),
        links=(
            LinkUse("d2h", 100e9, 0, sheet, Tier.HBM, Tier.HOST),
            LinkUse("h2d", 100e9, 0, sheet, Tier.HOST, Tier.HBM),
        )
        if transfers
        else (),
        fits=True,
        missing_bytes=0,
        makespan_ns=count * op_ns,
        allocator="512 B blocks",
        rests_on=(sheet,),
        notes=(),
        kernels=tuple(_kernel(name, size) for name in _TYPES),
    )


def _kernel(kind: str, size: int) -> PlannedKernel:
    """What an op of `kind` launches on the layered plan's tensors."""
    side = size // 4096
    left, right, square = (
        PlannedOperand(shape, "float32", "ND", shape[0] * shape[1] * 4)
        for shape in ((side, 1024), (1024, side), (side, side))
    )
    if kind == "MatMul":
        plain = (PlannedAttribute("transpose_a", False), PlannedAttribute("transpose_b", False))
        return PlannedKernel(kind, (left, right), (square,), plain)
    if kind == "ReduceSum":
        return PlannedKernel(kind, (left, None), (PlannedOperand((side, 1), "float32", "ND", side * 4),), ())
    return PlannedKernel(kind, (left, left), (left,), ())


_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_BYTES = st.integers(0, 2**45)
_TIMES = st.integers(0, 2**50)
_OPERANDS = st.builds(PlannedOperand, st.lists(st.integers(0, 2**31), max_size=3).map(tuple), _TEXT, _TEXT, _BYTES)
_VALUES = _TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
_KERNELS = st.builds(
    PlannedKernel,
    _TEXT,
    st.lists(st.none() | _OPERANDS, max_size=2).map(tuple),
    st.lists(_OPERANDS, max_size=2).map(tuple),
    st.lists(st.builds(PlannedAttribute, _TEXT, _VALUES), max_size=2).map(tuple),
)


_SLOTS = 8
_SPANS = st.tuples(st.integers(0, _SLOTS), st.integers(0, _SLOTS)).map(lambda ends: (min(ends), max(ends)))
_BUFFERS = st.builds(
    OnChipBuffer, _TEXT, st.sampled_from(Tier), _BYTES, _BYTES, st.lists(_SPANS, max_size=2).map(tuple), _TEXT, _TEXT,
    _TEXT, st.lists(st.integers(0, _SLOTS), max_size=2).map(tuple),
)  # fmt: skip
_USES = st.builds(OnChipUse, st.sampled_from(Tier), st.none() | _BYTES, _BYTES, _BYTES, _TEXT, st.integers(1, 512))
_ONCHIP = st.builds(
    OnChipPlan, st.lists(_BUFFERS, max_size=3).map(tuple), st.lists(_USES, max_size=2).map(tuple), st.booleans(),
    _BYTES, st.integers(0, 9), st.just(_SLOTS), st.lists(st.builds(Stage, _TEXT, _TEXT), max_size=2).map(tuple),
)  # fmt: skip
_SENTENCES = st.one_of(
    st.builds(PlannedSentence, _TEXT), st.builds(PlannedSentence, st.just("{} of {}"), st.tuples(_TEXT, _TEXT))
)


def _tilings(kernels: int, layouts: int) -> st.SearchStrategy[PlannedTiling]:
    """Any tiling of one of so many kernels and layouts of buffers."""
    return st.builds(
        PlannedTiling, st.integers(0, kernels - 1), st.none() | st.floats(0, 1),
        st.none() | st.integers(0, layouts - 1) if layouts else st.none(),
        st.lists(st.builds(TileSize, _TEXT, st.integers(0, 2**40) | _TEXT), max_size=2).map(tuple),
        st.lists(_SENTENCES, max_size=2).map(tuple), st.none() | _SENTENCES,
        st.lists(_SENTENCES, max_size=1).map(tuple), _TIMES, _TEXT,
        st.integers(0, 2**60), _BYTES, _BYTES, st.none() | _BYTES,
        st.lists(st.builds(PipeBusy, _TEXT, st.floats(0, 1e12)), max_size=2).map(tuple),
    )  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any plan whose references hold, sensible or not."""
    steps = draw(st.integers(0, 6))
    kernels = tuple(draw(st.lists(_KERNELS, max_size=2)))
    which = st.none() | st.sampled_from(range(len(kernels))) if kernels else st.none()
    optional_step = st.none() | st.integers(0, max(steps - 1, 0))
    onchip = tuple(draw(st.lists(_ONCHIP, max_size=2)))
    tilings = tuple(draw(st.lists(_tilings(len(kernels), len(onchip)), max_size=2))) if kernels else ()
    cut = st.none() | st.sampled_from(range(len(tilings))) if tilings else st.none()
    ops = tuple(
        PlannedOp(index, draw(_TEXT), draw(_TEXT), draw(st.integers(0, 3)), draw(_TIMES), draw(_TIMES), draw(_TIMES),
                  draw(st.sampled_from(Bound)), draw(st.integers(0, 2**60)), draw(_BYTES), draw(st.none() | _TEXT),
                  draw(which), draw(st.none() | st.floats(0, 1)), launches=draw(st.none() | st.booleans()),
                  tiling=draw(cut))
        for index in range(steps)
    )  # fmt: skip
    indices = draw(st.lists(st.integers(0, 100), unique=True, max_size=5).map(sorted))
    spans = st.tuples(st.integers(0, steps), st.integers(0, steps)).map(sorted)
    tensors, placements = [], []
    for index in indices:
        start, end = draw(spans)
        uses = tuple(draw(st.lists(st.integers(0, steps - 1), unique=True).map(sorted))) if steps else ()
        shape = tuple(draw(st.lists(st.integers(0, 2**31), max_size=3)))
        tensors.append(
            PlannedTensor(index, draw(_TEXT), shape, draw(_TEXT), draw(_TEXT), draw(_BYTES), draw(_TEXT),
                          draw(st.booleans()), start, end, draw(optional_step) if steps else None, uses)
        )  # fmt: skip
        for _ in range(draw(st.integers(0, 2))):
            start, end = draw(spans)
            tier = draw(st.sampled_from(Tier))
            placements.append(Placement(index, tier, draw(st.none() | _BYTES), draw(_BYTES), start, end))
    sources = st.builds(Source, _TEXT, _TEXT)
    move = st.builds(
        lambda *fields: Transfer(*fields[:5], *sorted(fields[5:7]), *fields[7:]),
        st.sampled_from(indices) if indices else st.nothing(), st.sampled_from(Tier), st.sampled_from(Tier),
        _BYTES, _TEXT, _TIMES, _TIMES, optional_step if steps else st.none(), optional_step if steps else st.none(),
    )  # fmt: skip
    use = st.builds(
        TierUse, st.sampled_from(Tier), st.none() | _BYTES, _BYTES, _BYTES, _BYTES,
        optional_step if steps else st.none(), _BYTES, _TEXT,
    )  # fmt: skip
    rate = st.floats(0, 1e13, allow_nan=False)
    ends = st.none() | st.sampled_from(Tier)
    return Plan(
        origin=PlanOrigin(draw(_TEXT), draw(_TEXT), draw(st.none() | _TEXT), draw(_TEXT)),
        chip=draw(_TEXT),
        memplan_version=draw(_TEXT),
        ops=ops,
        tensors=tuple(tensors),
        placements=tuple(placements),
        transfers=tuple(draw(st.lists(move, max_size=3))) if indices else (),
        tiers=tuple(draw(st.lists(use, max_size=2))),
        links=tuple(draw(st.lists(st.builds(LinkUse, _TEXT, rate, _TIMES, sources, ends, ends), max_size=2))),
        fits=draw(st.booleans()),
        missing_bytes=draw(_BYTES),
        makespan_ns=draw(_TIMES),
        allocator=draw(_TEXT),
        rests_on=tuple(draw(st.lists(sources, max_size=2))),
        notes=tuple(draw(st.lists(_TEXT, max_size=2))),
        kernels=kernels,
        tilings=tilings,
        onchip=onchip,
        timed=draw(st.booleans()),
    )
