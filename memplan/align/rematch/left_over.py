"""
What a pair model leaves over, because the run has another order than the plan: matched by what kernels read and make.

A kernel that updates many weights at once has them all. An op that was left out takes the nearest kernel that could
run it and runs nothing else of importance. A kernel that moves data (a slice, a copy) goes to the op whose operands
are its own: a view made contiguous in the middle of other work, or once more on the way back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy, each_step
from memplan.align.classes.likelihood import pair_model
from memplan.align.classes.op_families import family_table
from memplan.align.plan_and_run import PlanAndRun
from memplan.core.arrays import Bools, Floats, Int32s, Int64s

_PAIRS = 4_000_000
"""Pairs of a missed op and a free kernel that are weighed at once."""


def take_left_over(both: PlanAndRun, found: KernelAssignment) -> None:
    """Change `found` in place where ops, and kernels that move data, are left over."""
    _LeftOver(both, found).run()


class _LeftOver:
    """Matching of what is left over; changes an assignment in place."""

    def __init__(self, both: PlanAndRun, found: KernelAssignment) -> None:
        self.sequence, self.ratios = both.sequence, both.ratios
        self.kernels, self.kernel_class, self.found = both.kernels, both.kernel_class, found
        self.rules = pair_model()["left_over"]
        place = self.sequence.place.astype(np.int64)
        # Micro-batch and layer of every row as one number, -1 where it has no layer.
        self.layer = np.where(place[:, 2] >= 0, (place[:, 1] + 1) * (place[:, 2].max() + 2) + place[:, 2], -1)
        self.forward, self.wide = (
            np.isin(place[:, 0], [number for number, phase in enumerate(self.sequence.phases) if phase in some])
            for some in (("forward",), ("optimizer", "grad_sync", "pipeline"))
        )

    def run(self) -> None:
        """Match missed ops, then kernels that move data."""
        self._many_tensors()
        self._missed_ops()
        self._movers()
        self._strays()

    def _many_tensors(self) -> None:
        """
        Give kernels that work on many tensors, all of them as large as weights, to the updates: foreach optimisers.

        What isn't the optimiser's own (a norm or a scaling of many gradients) stays what it is called.
        """
        found, sequence, known = self.found, self.sequence, family_table()
        optimizer = known.number("optimizer")
        rows = np.flatnonzero((sequence.op >= 0) & (sequence.classes.main[sequence.token] == optimizer))
        if len(rows) < self.rules["many_tensors"]:
            return
        sizes = np.unique(sequence.classes.inputs[sequence.token[rows]].max(axis=1))
        inputs = self.kernels.inputs
        many = (inputs > 0).sum(axis=1) >= self.rules["many_tensors"]
        own = [
            known.number(name)
            for name in ("optimizer", "add", "sub", "mul", "div", "fused_multiply_add", "sqrt", "pow")
        ]
        fits = (np.isin(inputs, sizes) | (inputs == 0)).all(axis=1) & many & self.kernels.among(own)
        several = np.array([len(np.unique(row[row > 0])) > 1 for row in inputs])
        between = sequence.op[rows[0] : rows[-1] + 1]
        whole = bool(np.isin(between, sequence.op[rows]).all())
        for kernel in np.flatnonzero((fits & several)[self.kernel_class] & ~found.core).tolist():
            self._assign(kernel, int(rows[0]), self.rules["many_tensors_chance"], MatchedBy.FUSED, core=True)
            if whole:
                found.last[kernel] = rows[-1]

    def _missed_ops(self) -> None:
        """Give ops without a kernel the nearest free one that could run them; of equal ones in order."""
        found, rows = self.found, len(self.sequence)
        planned = self.sequence.op >= 0
        for mine in each_step(found.step):
            if len(mine) < rows // 50:
                continue
            core = mine[found.core[mine]]
            edges = np.bincount(found.first[core], minlength=rows + 1)
            edges -= np.bincount(found.last[core] + 1, minlength=rows + 1)
            run = np.cumsum(edges)[:rows] > 0
            other = mine[~found.core[mine]]
            free = other[(found.row[other] < 0) | run[found.row[other]]]
            if not len(free):
                continue
            low, high = int(found.place[mine].min()), int(found.place[mine].max())
            missed = low + np.flatnonzero((planned & ~run)[low : high + 1])
            self._pair(free, missed)
            self._in_order(mine)

    def _pair(self, free: Int64s, missed: Int64s) -> None:
        """Pairs of a missed row and a free kernel, likeliest first."""
        found = self.found
        kernels = free[np.argsort(found.place[free], kind="stable")]
        places = found.place[kernels]
        span = np.where(self.wide[missed], self.rules["far_reach"], self.rules["reach"])
        begin, end = np.searchsorted(places, missed - span), np.searchsorted(places, missed + span + 1)
        row, kernel, weight = self._able(missed, kernels, begin, end, span)
        distance = np.abs(found.place[kernel] - row)
        order = np.lexsort((-kernel, row, distance, -weight))
        whole = np.bincount(kernel, weight, 1)
        used: set[int] = set()
        taken: set[int] = set()
        chosen: list[tuple[int, int, float]] = []
        for at, of, worth in zip(kernel[order].tolist(), row[order].tolist(), weight[order].tolist(), strict=True):
            if of not in used and at not in taken:
                used.add(of)
                taken.add(at)
                rest = float(whole[at]) - worth + self.rules["prior"]
                chosen.append((at, of, worth / (worth + rest)))
        self._settle(chosen, missed)

    def _in_order(self, mine: Int64s) -> None:
        """
        Let equal kernels of a step run equal ops in their order: nearness tells how many of them, not which.

        Where one was matched out of order, so may the one have been whose op that is.
        """
        found, rules = self.found, self.rules
        out_of_order = found.how[mine] == HOW.index(MatchedBy.DATAFLOW)
        row, kind = found.row[mine], self.kernel_class[mine]
        alone = (row >= 0) & found.core[mine] & (found.first[mine] == found.last[mine])
        whole = self.sequence.token[row].astype(np.int64) * len(self.kernels) + kind
        chosen = np.flatnonzero(alone & np.isin(whole, np.unique(whole[out_of_order & alone])))
        chosen = chosen[np.argsort(whole[chosen], kind="stable")]
        for members in np.split(mine[chosen], np.flatnonzero(np.diff(whole[chosen])) + 1):
            for several in np.split(members, np.flatnonzero(np.abs(np.diff(found.row[members])) > rules["reach"]) + 1):
                found.match(several, np.sort(found.row[several]))

    def _able(
        self, missed: Int64s, kernels: Int64s, begin: Int64s, end: Int64s, span: Int64s
    ) -> tuple[Int64s, Int64s, Floats]:
        """Rows of `missed`, kernels between `begin` and `end` that could run them, and how much each speaks for it."""
        count = end - begin
        rows, able, weights = [], [], []
        for part in np.split(np.arange(len(missed)), np.flatnonzero(np.diff(np.cumsum(count) // _PAIRS)) + 1):
            times = count[part]
            which = np.repeat(part, times)
            inside = np.arange(len(which)) - np.repeat(np.cumsum(times) - times, times)
            kernel = kernels[begin[which] + inside]
            core = self.ratios.core[self.sequence.token[missed[which]], self.kernel_class[kernel]]
            kept = core >= self.rules["least_ratio"]
            which, kernel = which[kept], kernel[kept]
            away = np.abs(self.found.place[kernel] - missed[which])
            rows.append(missed[which])
            able.append(kernel)
            weights.append(core[kept].astype(np.float64) * np.exp(-away / (span[which] / 3)))
        return np.concatenate(rows), np.concatenate(able), np.concatenate(weights)

    def _settle(self, chosen: Sequence[tuple[int, int, float]], missed: Int64s) -> None:
        """Assign pairs; one found wherever such an op was missed is surer: a run has its own order throughout."""
        token = self.sequence.token
        wanted = Counter(token[missed].tolist())
        alike = Counter((int(token[row]), int(self.kernel_class[kernel])) for kernel, row, _ in chosen)
        for kernel, row, chance in chosen:
            kind = int(token[row])
            times = alike[kind, int(self.kernel_class[kernel])]
            repeated = times / wanted[kind] * (1.0 - 1.0 / times)
            self._assign(kernel, row, _surer(chance, repeated), MatchedBy.DATAFLOW, core=True)

    def _movers(self) -> None:
        """Give kernels that move data to the op of the layer whose operands they have."""
        found, sequence = self.found, self.sequence
        movers = self.kernels.among(family_table().movers)[self.kernel_class]
        movers &= ~found.core & self.kernels.known[self.kernel_class] & ~self.kernels.scalar[self.kernel_class]
        rows = np.flatnonzero(self.layer >= 0)
        rows = rows[np.argsort(self.layer[rows], kind="stable")]
        layers, begins = np.unique(self.layer[rows], return_index=True)
        moving = np.flatnonzero(movers)
        moving = moving[self.layer[found.place[moving]] >= 0]
        if not len(moving):
            return
        kind, forward = self.kernel_class[moving], self.forward[found.place[moving]]
        there = Counter(zip(kind.tolist(), forward.tolist(), strict=True))
        layer = np.searchsorted(layers, self.layer[found.place[moving]])
        # Layers with the same ops in the same order take the same kernels.
        number: dict[bytes, int] = {}
        tokens = np.split(sequence.token[rows], begins[1:])
        like = np.array([number.setdefault(each.tobytes(), len(number)) for each in tokens])[layer]
        _, one, which = np.unique(like * np.int64(len(self.kernels)) + kind, return_index=True, return_inverse=True)
        best = [self._best(tokens[layer[at]], int(kind[at])) for at in one.tolist()]
        ratio = np.array([value for value, _ in best])[which]
        row = rows[begins[layer] + np.array([top for _, top in best])[which]]
        own = found.row[moving]
        now = np.where(own >= 0, self.ratios.behind[sequence.token[own], kind], 0.0).astype(np.float64)
        again = self.forward[row] & ~forward
        margin = np.where(again, self.rules["again_margin"], self.rules["mover_margin"])
        chosen = (ratio >= self.rules["least_mover_ratio"]) & (ratio > now * margin)
        # Where another of its like runs an op, none is moved to it, unless several do.
        cores = found.core & (found.row >= 0)
        pairs = row * np.int64(len(self.kernels)) + kind
        ran = np.isin(pairs[chosen], found.row[cores] * np.int64(len(self.kernels)) + self.kernel_class[cores])
        once = np.array([not rule.repeats for rule in sequence.rules])[sequence.token[row[chosen]]]
        chosen[chosen] = again[chosen] | ~(ran & once)
        chance = ratio / (ratio + now + self.rules["prior"])
        moved = [
            (kernel, to, worth, MatchedBy.AGAIN if once_more else MatchedBy.DATAFLOW)
            for kernel, to, worth, once_more in zip(
                *(column[chosen].tolist() for column in (moving, row, chance, again)), strict=True
            )
        ]
        alike = Counter(
            (int(sequence.token[row]), int(self.kernel_class[kernel]), how) for kernel, row, _, how in moved
        )
        for kernel, row, chance, how in moved:
            kind = int(self.kernel_class[kernel])
            times = alike[int(sequence.token[row]), kind, how]
            repeated = times / there[kind, bool(self.forward[int(found.place[kernel])])] * (1.0 - 1.0 / times)
            self._assign(kernel, row, _surer(chance, min(repeated, 1.0)), how, core=False)

    def _best(self, tokens: Int32s, kind: int) -> tuple[float, int]:
        """Of the ops of a layer, `tokens`, the likeliest that takes what kernels of a class have: ratio and place."""
        core = self.ratios.core[tokens, kind] * self._takes(tokens, kind)
        top = int(np.argmax(core))
        return float(core[top]), top

    def _strays(self) -> None:
        """
        Give parts that nothing has, but for copies, to the one op right beside them that they could be part of.

        The gradient of one side of an activation may stand behind the products of its other side.
        """
        found, sequence, rules = self.found, self.sequence, self.rules
        movers = self.kernels.among(family_table().movers)
        free = np.flatnonzero((found.row < 0) & ~movers[self.kernel_class])
        best, other, top = np.zeros(len(free)), np.zeros(len(free)), np.full(len(free), -1)
        for away in sorted(range(-rules["stray_reach"], rules["stray_reach"] + 1), key=abs):
            row = np.clip(found.place[free] + away, 0, len(sequence) - 1)
            ratio = self.ratios.behind[sequence.token[row], self.kernel_class[free]] * (sequence.op[row] >= 0)
            same = sequence.scope[row] == sequence.scope[top]
            better = ratio > best
            other = np.where(better & ~same, best, np.where(~better & ~same, np.maximum(other, ratio), other))
            best, top = np.where(better, ratio, best), np.where(better, row, top)
        for at in np.flatnonzero(
            (best >= rules["least_stray_ratio"]) & (best > other * rules["mover_margin"])
        ).tolist():
            chance = best[at] / (best[at] + other[at] + rules["prior"])
            self._assign(int(free[at]), int(top[at]), float(chance), MatchedBy.PART, core=False)

    def _takes(self, token: Int32s, kind: int) -> Bools:
        """Which classes of ops read the largest thing that a class of kernels reads, and make the largest it makes."""
        ops = self.sequence.classes
        read, made = self.kernels.inputs[kind].max(), self.kernels.outputs[kind].max()
        if not read or not made:
            return np.zeros(len(token), dtype=np.bool_)  # the table leaves one of them out
        takes: Bools = (ops.inputs[token] == read).any(axis=1) & (ops.outputs[token] == made).any(axis=1)
        return takes

    def _assign(self, kernel: int, row: int, chance: float, how: MatchedBy, *, core: bool) -> None:
        found, scope = self.found, self.sequence.scope
        old = int(found.row[kernel])
        same = old >= 0 and scope[old] == scope[row] and how is not MatchedBy.AGAIN
        found.scope_chance[kernel] = max(chance, float(found.scope_chance[kernel])) if same else chance
        found.match(kernel, row)
        found.chance[kernel], found.how[kernel], found.core[kernel] = chance, HOW.index(how), core


def _surer(chance: float, repeated: float) -> float:
    """A probability, where the same is found in a share `repeated` of its like."""
    return 1.0 - (1.0 - chance) * (1.0 - repeated)
