"""
Where an op that is written out ends and the next one begins: a framework writes every op of a kind out alike.

What stands between two main kernels (products, attention) is a stretch of parts of several ops. A stretch is cut so
that ops of one family have one sequence of kernels, their recipe, wherever they stand: each of its kernels by family
and by the sizes of its operands in those of the op, so that queries and keys tell of one another. A cut is the
likelier the more often its recipes stand elsewhere; a recipe found nowhere else costs what the pair model asks for
such parts (a Chinese restaurant process over recipes, whose base measure is the pair model; compare Goldwater,
Griffiths and Johnson 2009, on words of a text without spaces). Counts of one place of a layer say nothing of that
place itself, for it is the same in every layer.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.plan_and_run import PlanAndRun
from memplan.align.rematch.part_stretches import PartStretch, part_stretches
from memplan.align.rematch.recipe_counts import KernelSymbols, OpKind, OpPlace, RecipeCounts
from memplan.align.rematch.stretch_cuts import CutPrices, StretchCuts
from memplan.core.arrays import Bools, Int64s

_ROUNDS = 3
"""Times that all stretches are cut anew: recipes of one change the cuts of others."""
_CLEARLY = 4.0
"""Natural logarithm of how much likelier a cut is at least than the one that stands, which else stays."""


def take_recipes(both: PlanAndRun, inside: Bools, found: KernelAssignment) -> None:
    """Change `found` in place where ops between two main kernels are likelier cut otherwise; leave those `inside`."""
    stretches = part_stretches(both, inside, found)
    if stretches:
        cutter = _Cutter(both, stretches)
        cutter.run()
        cutter.take(found)


class _Cutter:
    """Cuts of all stretches, and what recipes they make."""

    def __init__(self, both: PlanAndRun, stretches: list[PartStretch]) -> None:
        sequence, ratios, kernels, kernel_class = both.sequence, both.ratios, both.kernels, both.kernel_class
        self._sequence, self._ratios, self._kernel_class = sequence, ratios, kernel_class
        self._stretches = stretches
        self._symbols = KernelSymbols(sequence.classes, kernels)
        self._counts: dict[OpKind, RecipeCounts] = defaultdict(RecipeCounts)
        tiny = np.finfo(np.float32).tiny
        share = np.bincount(kernel_class, minlength=len(kernels)) / len(kernel_class)
        core, part, again = (np.log(np.maximum(each, tiny)) for each in (ratios.core, ratios.behind, ratios.again))
        self._prices = CutPrices(sequence.rules, core, part, again, -np.log(np.maximum(share, tiny)))
        self._cuts = [stretch.cut for stretch in stretches]
        self._margins = [0.0] * len(stretches)

    def run(self) -> None:
        """Cut all stretches until nothing changes, or as often as it is worth."""
        for stretch in self._stretches:
            self._count(stretch, stretch.cut, len(stretch.begins))
        looked_at: dict[int, list[int]] = {}
        for _ in range(_ROUNDS):
            for number, stretch in enumerate(self._stretches):
                keys = self._keys(stretch)
                versions = [self._counts[kind].version for kind, _ in keys]
                if not stretch.open or looked_at.get(number) == versions:
                    continue
                cuts = StretchCuts(stretch, keys, self._counts, self._symbols, self._prices)
                best, margin = cuts.best(self._cuts[number])
                if margin > _CLEARLY:
                    self._count(stretch, self._cuts[number], -len(stretch.begins))
                    self._count(stretch, best, len(stretch.begins))
                    self._cuts[number], self._margins[number] = best, margin
                looked_at[number] = [self._counts[kind].version for kind, _ in keys]

    def take(self, found: KernelAssignment) -> None:
        """Change `found` to what the cuts say."""
        for stretch, cut, margin in zip(self._stretches, self._cuts, self._margins, strict=True):
            changed = np.flatnonzero(cut != stretch.cut)
            kernel = stretch.kernels[stretch.begins[:, None] + changed[None, :]].reshape(-1)
            # All kernels that are of a plan stay so.
            row = (stretch.rows[:, None] + stretch.offsets[cut[changed]][None, :]).reshape(-1)
            found.match(kernel, row)
            token, kind = self._sequence.token[row], self._kernel_class[kernel]
            main = self._ratios.core[token, kind] >= self._ratios.behind[token, kind]
            found.core[kernel] = main
            found.how[kernel] = np.where(main, HOW.index(MatchedBy.KERNEL), HOW.index(MatchedBy.PART))
            found.chance[kernel] = found.scope_chance[kernel] = 1.0 / (1.0 + np.exp(-margin))

    def _keys(self, stretch: PartStretch) -> list[tuple[OpKind, OpPlace]]:
        """Of which recipes that of each op is one, and where it stands."""
        tokens = [-1, *stretch.tokens.tolist(), -1]
        ends = [1, *[0] * (len(stretch.tokens) - 2), 2]
        main = self._sequence.classes.main
        return [
            ((int(main[token]), end), (token, before, behind))
            for before, token, behind, end in zip(tokens, tokens[1:], tokens[2:], ends, strict=False)
        ]

    def _count(self, stretch: PartStretch, cut: Int64s, times: int) -> None:
        for op, (kind, place) in enumerate(self._keys(stretch)):
            token, kinds = int(stretch.tokens[op]), stretch.kinds[cut == op]
            if not self._prices.strange(token, kinds).any():  # what can't be of the op tells nothing of it
                self._counts[kind].add(tuple(self._symbols.of(token, kinds).tolist()), place, times)


__all__ = ["take_recipes"]
