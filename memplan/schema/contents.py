"""
Whether every op of a plan reads the newest bytes, however often the plan is run.

Two runs of the plan, one after the other, are followed through time: what lies at each HBM address, which copies there
are elsewhere, and which of them is the newest. An op that repeats another has to read the very versions that the other
read, and makes the version that it made. Nothing but the plan is looked at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

from memplan.schema.plan import Placement, Plan, Transfer
from memplan.schema.tier import Tier

Content = tuple[int, int]
"""A tensor and which of its versions; a negative tensor stands for bytes that are under way."""

_OP, _TRANSFER = -1, -2
_RUNS = ("the first run", "the second run")


def content_violations(plan: Plan, *, most: int = 20) -> list[str]:
    """
    Reads of stale or missing bytes, lost updates and what keeps the plan from being run again, at most `most`.

    Empty for a sound plan, and for one whose file does not say what its ops read and write.
    """
    if any(op.reads is None or op.writes is None for op in plan.ops):
        return []
    simulation = _Simulation(plan, most)
    for name in _RUNS:
        simulation.run(name)
        if len(simulation.found) >= most:
            break
    return simulation.found[:most]


class _AddressMap:
    """What lies at each address: pieces `[starts[i], starts[i + 1])`; `changes` counts what was put there."""

    def __init__(self) -> None:
        self.starts = [0]
        self.held: list[Content | None] = [None]
        self.changes = 0

    def put(self, low: int, high: int, content: Content) -> None:
        """Let `[low, high)` hold `content`."""
        starts, held = self.starts, self.held
        self.changes += 1
        first = bisect_left(starts, low)
        if starts[first : first + 2] == [low, high]:  # most often a piece that is there already
            held[first] = content
            return
        last = bisect_right(starts, high)
        behind = held[last - 1]
        starts[first:last] = [low, high]
        held[first:last] = [content, behind]

    def holds(self, low: int, high: int, content: Content) -> bool:
        """Whether all of `[low, high)` is `content`."""
        starts, held = self.starts, self.held
        at = bisect_right(starts, low) - 1
        while held[at] == content:
            at += 1
            if at == len(starts) or starts[at] >= high:
                return True
        return False

    def other(self, low: int, high: int, content: Content) -> Content | None:
        """The first thing in `[low, high)` that is not `content`."""
        at = bisect_right(self.starts, low) - 1
        while at < len(self.starts) and self.starts[at] < high:
            if self.held[at] != content:
                return self.held[at]
            at += 1
        return None


class _Simulation:
    """The state of all memories at one time, and what was found wrong so far."""

    def __init__(self, plan: Plan, most: int) -> None:
        self.plan, self.most = plan, most
        self.found: list[str] = []
        self.where = "every run"
        self.tensors = {tensor.index: tensor for tensor in plan.tensors}
        self.places: dict[int, list[Placement]] = {}
        self.elsewhere: dict[tuple[Tier, int], list[Placement]] = {}
        for placement in plan.placements:
            tensor = self.tensors.get(placement.tensor)
            if tensor is None or not tensor.nbytes:
                continue
            if placement.tier is Tier.HBM:
                if placement.offset is not None and placement.start < placement.end:
                    self.places.setdefault(placement.tensor, []).append(placement)
            else:
                self.elsewhere.setdefault((placement.tier, placement.tensor), []).append(placement)
        for places in self.places.values():
            places.sort(key=lambda place: place.start)
        self.reads = [self._spans(op.index, op.reads or ()) for op in plan.ops]
        self.writes = [self._spans(op.index, op.writes or ()) for op in plan.ops]
        self.events = _events(plan)
        self.hbm = _AddressMap()
        self.copies: dict[tuple[Tier, int], int | None] = {}
        self.newest: dict[int, int] = {}
        self.under_way: dict[int, tuple[int, dict[int, int]]] = {}
        self.read_at: dict[int, dict[int, int]] = {}
        self.made_at: dict[int, dict[int, int]] = {}
        self.repeated = {op.repeats for op in plan.ops if op.repeats is not None}
        self.moving: dict[int, tuple[int, int | None]] = {}
        self.start_place: dict[int, Placement] = {}
        self.carried = self._carried()
        self._begin()
        self._stay_in_loops()

    def _spans(self, step: int, tensors: Sequence[int]) -> list[tuple[int, int, int]]:
        """`(tensor, low, high)` of those of `tensors` that have a place in HBM at `step`."""
        found = []
        for tensor in tensors:
            span = self._span(tensor, step)
            if span is not None:
                found.append((tensor, *span))
        return found

    def _span(self, tensor: int, step: int) -> tuple[int, int] | None:
        places = self.places.get(tensor, ())
        at = bisect_right(places, step, key=lambda place: place.start) - 1
        if at < 0 or places[at].end <= step:
            return None
        low = places[at].offset or 0
        return low, low + self.tensors[tensor].nbytes

    def _carried(self) -> list[int]:
        """Tensors whose bytes one run leaves for the next: persistent ones, and those read before they are written."""
        held = {index for index, tensor in self.tensors.items() if tensor.persistent and tensor.nbytes}
        written: set[int] = set()
        for reads, writes in zip(self.reads, self.writes, strict=True):
            held.update(tensor for tensor, _, _ in reads if tensor not in written)
            written.update(tensor for tensor, _, _ in writes)
        return sorted(held)

    def _begin(self) -> None:
        """Put what is carried where the plan has it when it begins; a first transfer in fills a place by itself."""
        fetched: dict[int, int] = {}
        for move in self.plan.transfers:
            if move.target is Tier.HBM and move.before_step is not None:
                fetched[move.tensor] = min(fetched.get(move.tensor, move.before_step), move.before_step)
        for index in self.carried:
            self.newest[index] = 0
            place = next(iter(self.places.get(index, ())), None)
            uses = self.tensors[index].uses
            first = min(uses) if uses else len(self.plan.ops)
            if place is not None and place.start == 0 and fetched.get(index, first + 1) > first:
                self.start_place[index] = place
                self.hbm.put(*self._whole(place), (index, 0))
        for (tier, index), places in self.elsewhere.items():
            if index in self.newest and any(place.start == 0 for place in places):
                self.copies[tier, index] = 0

    def _stay_in_loops(self) -> None:
        """What a pass of a loop finds where the pass before left it may not move meanwhile."""
        begins: list[int] = []
        for op in self.plan.ops:
            if op.type == "LoopBegin":
                begins.append(op.index)
            if op.type != "LoopEnd" or not begins:
                continue
            begin = begins.pop()
            inside = zip(self.reads[begin : op.index + 1], self.writes[begin : op.index + 1], strict=True)
            used = {tensor for reads, writes in inside for tensor, _, _ in (*reads, *writes)}
            for tensor in sorted(used):
                if self.tensors[tensor].start > begin:
                    continue
                if not any(place.start <= begin and op.index < place.end for place in self.places.get(tensor, ())):
                    self._say(f"{self._label(tensor)} moves within the loop of steps {begin} to {op.index}")

    def _whole(self, place: Placement) -> tuple[int, int]:
        low = place.offset or 0
        return low, low + self.tensors[place.tensor].nbytes

    def run(self, name: str) -> None:
        """Run the plan once more; `name` says which run this is."""
        self.where = name
        for _, rank, index in self.events:
            if len(self.found) >= self.most:
                return
            if rank == _STARTS:
                self._start(index)
                if not self.plan.ops[index].duration_ns:
                    self._finish(index)
            elif rank == _FINISHES:
                self._finish(index)
            elif rank == _LEAVES:
                self._depart(index, self.plan.transfers[index])
            else:
                self._arrive(index, self.plan.transfers[index])
        self._close()

    def _say(self, text: str) -> None:
        self.found.append(f"{text}, in {self.where}")

    def _label(self, tensor: int) -> str:
        return f"tensor {tensor} ({self.tensors[tensor].name})"

    def _op(self, step: int) -> str:
        return f"op {self.plan.ops[step].name} (step {step})"

    def _instead(self, low: int, high: int, wanted: Content) -> str:
        """What there is in place of the `wanted` content."""
        other = self.hbm.other(low, high, wanted)
        if other is None:
            return "nothing was ever put there"
        if other[0] == _OP:
            return f"{self._op(other[1])} is writing there"
        if other[0] == _TRANSFER:
            return f"tensor {self.plan.transfers[other[1]].tensor} is still on its way there"
        if other[0] == wanted[0]:
            return f"the bytes there are stale by so many updates: {wanted[1] - other[1]}"
        return f"tensor {other[0]} lies there"

    def _start(self, step: int) -> None:
        hbm = self.hbm
        seen: dict[int, int] = {}
        wanted = self._read_before(step)
        for tensor, low, high in self.reads[step]:
            version = seen[tensor] = wanted.get(tensor, -1)
            if version < 0:
                self._say(f"{self._op(step)} reads {self._label(tensor)}, which no op has written")
            elif not hbm.holds(low, high, (tensor, version)):
                why = self._instead(low, high, (tensor, version))
                self._say(f"{self._op(step)} reads {self._label(tensor)} at {low}, but {why}")
                hbm.put(low, high, (tensor, version))
        for _, low, high in self.writes[step]:
            hbm.put(low, high, (_OP, step))
        self.under_way[step] = hbm.changes, seen
        if step in self.repeated:
            self.read_at[step] = seen

    def _read_before(self, step: int) -> Mapping[int, int]:
        """The version of each tensor that an op has to read: the newest, or what the op that it repeats has read."""
        again = self.plan.ops[step].repeats
        if again is None:
            return self.newest
        first, second = self.plan.ops[again] if 0 <= again < step else None, self.plan.ops[step]
        if first is None or (first.type, first.reads, first.writes) != (second.type, second.reads, second.writes):
            self._say(f"{self._op(step)} is said to repeat step {again}, which is not an earlier op like it")
            return self.newest
        return self.read_at.get(again, {})

    def _finish(self, step: int) -> None:
        hbm = self.hbm
        changes, seen = self.under_way.pop(step)
        if changes != hbm.changes:
            written = {tensor for tensor, _, _ in self.writes[step]}
            for tensor, low, high in self.reads[step]:
                if tensor not in written and not hbm.holds(low, high, (tensor, seen[tensor])):
                    why = self._instead(low, high, (tensor, seen[tensor]))
                    self._say(f"{self._op(step)} still reads {self._label(tensor)} at {low}, but {why}")
            for tensor, low, high in self.writes[step]:
                if not hbm.holds(low, high, (_OP, step)):
                    why = self._instead(low, high, (_OP, step))
                    self._say(f"{self._op(step)} still writes {self._label(tensor)} at {low}, but {why}")
        again = self.plan.ops[step].repeats
        made = {} if again is None else self.made_at.get(again, {})
        if again is None:
            for tensor, _, _ in self.writes[step]:
                self.newest[tensor] = made[tensor] = self.newest.get(tensor, -1) + 1
            if step in self.repeated:
                self.made_at[step] = made
        for tensor, low, high in self.writes[step]:
            # What is made anew is what it was, not something newer.
            hbm.put(low, high, (tensor, made.get(tensor, -1)))

    def _side(self, move: Transfer, *, source: bool) -> tuple[int, int] | None:
        """The HBM bytes that `move` comes from or goes to; `None` where the plan has none for it."""
        step = move.after_step if source else move.before_step
        if step is None:
            step = 0 if source else len(self.plan.ops) - 1
        return self._span(move.tensor, step)

    def _has_room(self, move: Transfer, tier: Tier, *, source: bool) -> bool:
        """Whether the plan keeps a place for the tensor outside HBM at the time of the transfer."""
        steps = len(self.plan.ops)
        if source:
            at = steps if move.before_step is None else move.before_step
        else:
            at = 0 if move.after_step is None else move.after_step + 1
        return any(place.start <= at <= place.end for place in self.elsewhere.get((tier, move.tensor), ()))

    def _depart(self, index: int, move: Transfer) -> None:
        tensor, newest = move.tensor, self.newest.get(move.tensor, -1)
        label = self._label(tensor)
        version: int | None = newest
        if move.size < self.tensors[tensor].nbytes:
            self._say(f"{move.size} of {self.tensors[tensor].nbytes} bytes of {label} are moved")
        if move.source is Tier.HBM:
            span = self._side(move, source=True)
            if span is None or newest < 0 or not self.hbm.holds(*span, (tensor, newest)):
                why = "it has no place there" if span is None else self._instead(*span, (tensor, newest))
                self._say(f"{label} leaves HBM after step {move.after_step}, but {why}")
        else:
            version = self.copies.get((move.source, tensor))
            if version is None or not self._has_room(move, move.source, source=True):
                self._say(f"{label} comes from {move.source.value} before step {move.before_step}, where it is not")
        if move.target is Tier.HBM:
            span = self._side(move, source=False)
            if span is None:
                self._say(f"{label} comes into HBM before step {move.before_step}, where it has no place")
            else:
                self.hbm.put(*span, (_TRANSFER, index))
        else:
            if not self._has_room(move, move.target, source=False):
                self._say(f"{label} goes to {move.target.value} after step {move.after_step}, where it has no place")
            self.copies[move.target, tensor] = None
        self.moving[index] = self.hbm.changes, version

    def _arrive(self, index: int, move: Transfer) -> None:
        changes, version = self.moving.pop(index)
        tensor, label = move.tensor, self._label(move.tensor)
        if version is None:
            return
        if move.source is Tier.HBM:
            span = self._side(move, source=True)
            if changes != self.hbm.changes and span is not None and not self.hbm.holds(*span, (tensor, version)):
                why = self._instead(*span, (tensor, version))
                self._say(f"{label} is still leaving HBM, but {why}")
        elif self.copies.get((move.source, tensor)) != version:
            self._say(f"{label} is still coming from {move.source.value}, where it is written over")
        if move.target is not Tier.HBM:
            self.copies[move.target, tensor] = version
            return
        span = self._side(move, source=False)
        if span is None:
            return
        if changes != self.hbm.changes and not self.hbm.holds(*span, (_TRANSFER, index)):
            why = self._instead(*span, (_TRANSFER, index))
            self._say(f"{label} is still coming into HBM at {span[0]}, but {why}")
        self.hbm.put(*span, (tensor, version))

    def _close(self) -> None:
        """The next run must find what is carried where this one found it; results must be somewhere."""
        steps = len(self.plan.ops)
        for index in self.carried:
            newest, place = self.newest[index], self.start_place.get(index)
            if place is not None:
                if not self.hbm.holds(*self._whole(place), (index, newest)):
                    self._not_there(index, place)
            elif not any(self.copies.get((tier, index)) == newest for tier in Tier) and self.tensors[index].uses:
                self._say(f"{self._label(index)} was changed and is not copied back: {self._trace(index)}")
        for index, tensor in self.tensors.items():
            if tensor.end == steps and index in self.newest and index not in self.carried and not self._kept(index):
                self._say(f"{self._label(index)} is lost before the end, to which it is kept")

    def _not_there(self, index: int, place: Placement) -> None:
        begins = f"{self._label(index)} begins at {place.offset}"
        ends = next((p for p in reversed(self.places[index]) if self._holds_newest(p)), None)
        if ends is not None:
            self._say(f"{begins} and ends at {ends.offset}: the plan can't be run again")
        else:
            self._say(f"{begins} and its newest bytes are not there at the end: {self._trace(index)}")
        self.hbm.put(*self._whole(place), (index, self.newest[index]))

    def _holds_newest(self, place: Placement) -> bool:
        return self.hbm.holds(*self._whole(place), (place.tensor, self.newest[place.tensor]))

    def _kept(self, index: int) -> bool:
        if any(self.copies.get((tier, index)) == self.newest[index] for tier in Tier):
            return True
        return any(self._holds_newest(place) for place in self.places.get(index, ()))

    def _trace(self, index: int) -> str:
        return "only other copies are left" if self._kept(index) else "its last update is lost"


_FINISHES, _ARRIVES, _STARTS, _LEAVES = range(4)
"""What happens at the same nanosecond, in order: an op that ends has ended before a transfer of its bytes begins."""


def _events(plan: Plan) -> list[tuple[int, int, int]]:
    """`(ns, what, index)` in the order of time; an op without duration ends as it starts, in the order of the plan."""
    events = []
    for op in plan.ops:
        events.append((op.start_ns, _STARTS, op.index))
        if op.duration_ns:
            events.append((op.start_ns + op.duration_ns, _FINISHES, op.index))
    known = {tensor.index: tensor.nbytes for tensor in plan.tensors}
    for index, move in enumerate(plan.transfers):
        if known.get(move.tensor):
            events.append((move.start_ns, _LEAVES, index))
            events.append((max(move.end_ns, move.start_ns), _ARRIVES, index))
    # A transfer that takes no time would arrive before it leaves; its link's rate is checked elsewhere.
    instant = {index for index, move in enumerate(plan.transfers) if move.end_ns <= move.start_ns}
    return sorted(events, key=lambda e: (e[0], _LEAVES + 1 if e[1] == _ARRIVES and e[2] in instant else e[1], e[2]))
