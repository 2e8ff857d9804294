"""
A slow second opinion: a graph is run on real bytes, once as its ops say and once in the memories of a plan.

Ops are made up but depend on every byte that they read, so whatever a plan loses or mixes up shows in what is read.
Nothing of memplan's own check is used here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memplan.graph import Graph, Op
from memplan.schema import Placement, Plan, Tier, Transfer

Bytes = NDArray[np.int16]
_UNKNOWN = -1
_RUNS = 3


class ByteMemory:
    """Every byte of HBM, of the host's copies, and of what they should be; `wrong` says where they differ."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph, self.plan = graph, plan
        self.wrong: list[str] = []
        self.size = {tensor.index: tensor.nbytes for tensor in plan.tensors}
        top = max((p.offset + p.size for p in plan.placements if p.offset is not None), default=0)
        self.hbm: Bytes = np.full(top, _UNKNOWN, dtype=np.int16)
        self.truth: dict[int, Bytes] = {i: np.full(n, _UNKNOWN, dtype=np.int16) for i, n in self.size.items()}
        self.host: dict[int, Bytes] = {}
        self.snapshot: dict[object, Bytes] = {}
        self.inputs: dict[int, list[tuple[int, int, Bytes]]] = {}
        self.ops = _as_planned(graph, plan)
        self.read_before: dict[int, list[tuple[int, int, Bytes]]] = {}
        self.made_before: dict[int, list[tuple[int, Bytes]]] = {}
        for tensor in graph.tensors:
            if tensor.storage == tensor.index and tensor.index in self.size and self._exists(tensor.index):
                self.truth[tensor.index] = _noise(tensor.index, 0, self.size[tensor.index])
        for place in plan.placements:
            held = self.truth[place.tensor]
            if place.start == 0 and held.size and held[0] != _UNKNOWN:
                if place.tier is Tier.HBM:
                    self._hbm(place)[:] = held
                else:
                    self.host[place.tensor] = held.copy()

    def _exists(self, storage: int) -> bool:
        """Whether something is there before the first op."""
        if self.graph.tensors[storage].kind.persistent or storage in self.graph.inputs:
            return True
        for op in self.graph.ops:
            if any(self.graph.tensors[t].storage == storage for t in op.inputs):
                return True
            if any(self.graph.tensors[t].storage == storage for t in op.outputs):
                return False
        return False

    def _hbm(self, place: Placement) -> Bytes:
        low = place.offset or 0
        return self.hbm[low : low + self.size[place.tensor]]

    def _at(self, tensor: int, step: int) -> Bytes | None:
        for place in self.plan.placements:
            if place.tier is Tier.HBM and place.tensor == tensor and place.start <= step < place.end:
                return self._hbm(place)
        return None

    def run(self) -> list[str]:
        """Run the plan several times; what went wrong, empty for a good plan."""
        plan = self.plan
        happenings: list[tuple[int, int, int, str]] = []
        for op in plan.ops:
            happenings.append((op.start_ns, 2, op.index, "both" if not op.duration_ns else "start"))
            if op.duration_ns:
                happenings.append((op.start_ns + op.duration_ns, 0, op.index, "end"))
        for number, move in enumerate(plan.transfers):
            if self.size.get(move.tensor):
                happenings.append((move.start_ns, 3, number, "leave"))
                happenings.append((move.end_ns, 1, number, "arrive"))
        happenings.sort()
        for run in range(_RUNS):
            for _, _, number, what in happenings:
                if what in ("start", "both"):
                    self._start(self.ops[number], run)
                if what in ("end", "both"):
                    self._end(self.ops[number], run)
                if what == "leave":
                    self._leave(number, plan.transfers[number])
                if what == "arrive":
                    self._arrive(number, plan.transfers[number])
            self._all_kept(run)
        return self.wrong

    def _start(self, op: Op, run: int) -> None:
        read = []
        for tensor in dict.fromkeys(op.inputs):
            root, length = self.graph.tensors[tensor].storage, self.graph.tensors[tensor].nbytes
            if root not in self.size or not length:
                continue
            here = self._at(root, op.index)
            if op.repeats is None:
                wanted = self.truth[root][:length].copy()
            else:  # the bytes that the op found when it ran first, newer ones or not
                wanted = next(
                    held for other, size, held in self.read_before[op.repeats] if (other, size) == (root, length)
                )
            self._compare(op, root, wanted, here, run)
            read.append((root, length, wanted))
        self.inputs[op.index] = read
        for root, length in self._written(op):
            here = self._at(root, op.index)
            if here is not None:
                here[:length] = _UNKNOWN - 1  # under construction

    def _compare(self, op: Op, root: int, wanted: Bytes, here: Bytes | None, run: int) -> None:
        length, known = len(wanted), wanted != _UNKNOWN
        if here is None or not np.array_equal(here[:length][known], wanted[known]):
            self.wrong.append(f"run {run}: {op.name} reads other bytes of {root} than it should")
            if here is not None:
                here[:length][known] = wanted[known]

    def _written(self, op: Op) -> list[tuple[int, int]]:
        found = {}
        for tensor in op.writes:
            found[tensor] = self.graph.tensors[tensor].nbytes
        if op.launches:
            for tensor in op.outputs:
                found[tensor] = self.graph.tensors[tensor].nbytes
        roots = [(self.graph.tensors[tensor].storage, length) for tensor, length in found.items()]
        return [(root, length) for root, length in roots if root in self.size and length]

    def _end(self, op: Op, run: int) -> None:
        read = self.inputs.pop(op.index)
        changed = {root for root, _ in self._written(op)}
        for root, length, before in read:
            if root not in changed:
                here = self._at(root, op.index)
                known = before != _UNKNOWN
                if here is None or not np.array_equal(here[:length][known], before[known]):
                    self.wrong.append(f"run {run}: what {op.name} reads of {root} changes meanwhile")
        mixed = sum(int(before[before >= 0].sum()) * (place + 1) for place, (_, _, before) in enumerate(read))
        results = [
            (root, _noise((op.index if op.repeats is None else op.repeats) * 7 + place, mixed, length))
            for place, (root, length) in enumerate(self._written(op))
        ]
        if op.repeats is None:
            self.read_before[op.index], self.made_before[op.index] = read, results
            for root, bytes_of in results:
                self.truth[root][: len(bytes_of)] = bytes_of
        else:
            first = self.made_before[op.repeats]
            same = all(np.array_equal(old, new) for (_, old), (_, new) in zip(first, results, strict=True))
            if not same:
                self.wrong.append(f"run {run}: {op.name} makes something else than the first time")
        for root, made in results:
            length = len(made)
            here = self._at(root, op.index)
            if here is None:
                self.wrong.append(f"run {run}: {op.name} has no place to write {root}")
                continue
            if not (here[:length] == _UNKNOWN - 1).all():
                overlap = [r for r, _ in self._written(op)].count(root) > 1
                if not overlap:
                    self.wrong.append(f"run {run}: {root} is written over while {op.name} makes it")
            here[:length] = made

    def _ends(self, move: Transfer, *, source: bool) -> Bytes | None:
        tier = move.source if source else move.target
        if tier is not Tier.HBM:
            return self.host.get(move.tensor)
        step = move.after_step if source else move.before_step
        return None if step is None else self._at(move.tensor, step)

    def _leave(self, number: int, move: Transfer) -> None:
        source = self._ends(move, source=True)
        if source is None:
            self.wrong.append(f"transfer {number} of {move.tensor} comes from nowhere")
            source = np.full(self.size[move.tensor], _UNKNOWN, dtype=np.int16)
        self.snapshot[number] = source.copy()
        if move.target is not Tier.HBM:
            self.host[move.tensor] = np.full(self.size[move.tensor], -3, dtype=np.int16)
        target = self._ends(move, source=False)
        if target is not None:
            target[:] = -3

    def _arrive(self, number: int, move: Transfer) -> None:
        early = self.snapshot.pop(number)
        late, target = self._ends(move, source=True), self._ends(move, source=False)
        if target is None:
            self.wrong.append(f"transfer {number} of {move.tensor} goes nowhere")
            return
        if not (target == -3).all():
            self.wrong.append(f"{move.tensor} is written over while it arrives")
        half = len(early) // 2
        target[:half] = early[:half]
        target[half:] = early[half:] if late is None else late[half:]

    def _all_kept(self, run: int) -> None:
        """What outlives a run is somewhere."""
        steps = len(self.plan.ops)
        for tensor in self.plan.tensors:
            wanted = self.truth[tensor.index]
            if tensor.end != steps or tensor.kind == "workspace":
                continue
            known = wanted >= 0
            if not known.any():
                continue
            places = [self._hbm(p) for p in self.plan.placements if p.tier is Tier.HBM and p.tensor == tensor.index]
            if tensor.index in self.host:
                places.append(self.host[tensor.index])
            if not any(np.array_equal(place[known], wanted[known]) for place in places):
                self.wrong.append(f"run {run}: {tensor.index} is nowhere at the end")


def _as_planned(graph: Graph, plan: Plan) -> list[Op]:
    """The ops of `graph` as the plan runs them: in order, some of them more than once."""
    if len(graph.ops) == len(plan.ops):
        return list(graph.ops)
    ops: list[Op] = []
    first = iter(graph.ops)
    for planned in plan.ops:
        op = next(first) if planned.repeats is None else ops[planned.repeats]
        ops.append(replace(op, index=planned.index, repeats=planned.repeats))
    assert next(first, None) is None
    return ops


def _noise(seed: int, salt: int, length: int) -> Bytes:
    """Bytes that follow from `seed` and `salt`."""
    at = np.arange(length, dtype=np.int64)
    return ((at * 31 + seed * 101 + salt * 17 + (at >> 3) * (salt % 251)) % 251).astype(np.int16)
