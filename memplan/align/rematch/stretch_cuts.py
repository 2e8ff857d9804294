"""The likeliest way to cut one kind of stretches into the recipes of its ops."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memplan.align.classes.likelihood import pair_model
from memplan.align.classes.lowering import LoweringRule
from memplan.align.rematch.part_stretches import PartStretch
from memplan.align.rematch.recipe_counts import KernelSymbols, OpKind, OpPlace, OpRecipe, RecipeCounts
from memplan.core.arrays import Bools, Floats, Int64s

_NEW = 1.0
"""How many times all recipes together count as seen that weren't."""
_STRANGE = 0.5
"""By how much, as a logarithm, the ratio of a kernel that may be of an op is above that of one strange to it."""
_NEVER = -1e9


@dataclass(frozen=True, slots=True)
class CutPrices:
    """
    What the pair model asks for kernels of an op, all natural logarithms.

    `rules` are those of each class of ops; `core`, `part` and `again` are ratios by class of op and class of kernel,
    `surprise` is by how much less than one in one kernels are of each class.
    """

    rules: Sequence[LoweringRule]
    core: Floats
    part: Floats
    again: Floats
    surprise: Floats

    def strange(self, token: int, kinds: Int64s) -> Bools:
        """Whether kernels of these classes can hardly be of an op of class `token`."""
        best = np.maximum(np.maximum(self.core[token, kinds], self.part[token, kinds]), self.again[token, kinds])
        found: Bools = best <= pair_model()["weights"]["stranger"] + _STRANGE
        return found

    def of_op(self, token: int, kinds: Int64s, *, inside: bool) -> Floats:
        """
        For kernels from `i` until before `j`: by how much likelier they are all of that op than in no plan.

        What is not `inside` a stretch has its main kernel before or behind it.
        """
        core, part, again = (each[token, kinds] for each in (self.core, self.part, self.again))
        count, prices, rule = len(kinds), pair_model()["prices"], self.rules[token]
        way = "_written_out" if rule.written_out else ""
        stay = float(np.log(prices[f"stay{way}" if way else "stay_with_parts" if rule.parts else "stay"]))
        more = np.maximum(part + stay, again)
        sums = np.concatenate(([0.0], np.cumsum(more)))
        found: Floats = sums[None, :] - sums[:, None]
        if inside:
            bare = float(np.log(prices[f"bare{way}"]))
            # One of them may be the main kernel.
            gain = np.where(core >= part, core - more + stay - bare, 0.0)
            best = np.zeros((count + 1, count + 1))
            for begin in range(count):
                best[begin, begin + 1 :] = np.maximum.accumulate(gain[begin:])
            found += np.maximum(best, 0.0) + bare - stay
            np.fill_diagonal(found, float(np.log(prices["skip"])))
        found[np.tril_indices(count + 1, -1)] = _NEVER
        return found

    def unplanned(self, length: Int64s) -> Floats:
        """What so many kernels in a row cost that are in no plan."""
        prices = pair_model()["prices"]
        cost: Floats = np.log(prices["unplanned"]) + np.log(prices["unplanned_on"]) * (length - 1)
        return np.where(length > 0, cost, 0.0)


class StretchCuts:
    """
    Cuts of one kind of stretches, weighed by all that is known of recipes but from the places of this kind itself.

    A cut is for each kernel the op that it is of, or -1.
    """

    def __init__(
        self,
        stretch: PartStretch,
        keys: Sequence[tuple[OpKind, OpPlace]],
        counts: Mapping[OpKind, RecipeCounts],
        symbols: KernelSymbols,
        prices: CutPrices,
    ) -> None:
        self._kinds, self._prices, self._symbols = stretch.kinds, prices, symbols
        self._families = [kind for kind, _ in keys]
        tokens = stretch.tokens.tolist()
        self._mine = [symbols.of(token, stretch.kinds) for token in tokens]
        self._base = [
            prices.of_op(token, stretch.kinds, inside=family[1] == 0)
            for token, family in zip(tokens, self._families, strict=True)
        ]
        # What can't be of an op doesn't become one of its kernels.
        self._barred = [
            np.concatenate(([0], np.cumsum((stretch.cut != op) & prices.strange(token, stretch.kinds))))
            for op, token in enumerate(tokens)
        ]
        self._usual = np.concatenate(([0.0], np.cumsum(prices.surprise[stretch.kinds])))
        self._seen = {
            kind: counts[kind].elsewhere({place for other, place in keys if other == kind})
            for kind in dict.fromkeys(self._families)
        }
        self._scores = [self._with_recipes(op, self._seen[family][0]) for op, family in enumerate(self._families)]
        self._gaps = self._free(stretch.cut < 0)

    def best(self, cut: Int64s) -> tuple[Int64s, float]:
        """The best cut and by how much it is likelier than `cut`, nought where none is."""
        shared: dict[tuple[OpKind, OpRecipe], None] = {}
        for op, family in enumerate(self._families):
            like = [other for other in range(op) if self._families[other] == family]
            for recipe in (self._recipe(cut, op), *(self._twice(op, other) for other in like)):
                if self._families.count(family) > 1 and len(recipe) > 1:
                    shared[family, recipe] = None
        stands, found, most = self._weight(cut), cut, 0.0
        ways = {tried.tobytes(): tried for tried in (self._cut(each) for each in (None, *shared))}
        for tried in ways.values():
            margin = self._weight(tried) - stands
            if margin > most:
                found, most = tried, margin
        return found, most

    def _recipe(self, cut: Int64s, op: int) -> OpRecipe:
        return tuple(self._mine[op][cut == op].tolist())

    def _twice(self, op: int, other: int) -> OpRecipe:
        """The longest sequence that stands twice, once as what `other` is made of and behind that as what `op` is."""
        fits = self._symbols.alike(self._mine[other], self._mine[op])
        count = len(fits)
        longest, at = 0, 0
        run = np.zeros(count + 1, dtype=np.int64)
        for first in range(count - 1, -1, -1):
            run[:-1] = np.where(fits[first], run[1:] + 1, 0)
            apart = np.minimum(run[:-1], np.arange(count) - first)
            if apart.max() > longest:
                longest, at = int(apart.max()), first
        return tuple(self._mine[other][at : at + longest].tolist())

    def _weight(self, cut: Int64s) -> float:
        """How likely a cut is, as a logarithm: recipes that it has twice tell of one another."""
        own: dict[OpKind, list[OpRecipe]] = defaultdict(list)
        weight = 0.0
        for op, family in enumerate(self._families):
            mine, recipe = np.flatnonzero(cut == op), self._recipe(cut, op)
            runs = np.split(mine, np.flatnonzero(np.diff(mine) > 1) + 1)
            base = sum(self._base[op][run[0], run[-1] + 1] if len(run) else self._base[op][0, 0] for run in runs)
            seen, whole = self._seen[family]
            times = 0
            if len(runs) == 1:
                times = sum(count for each, count in seen.items() if self._same(each, recipe))
                times += sum(self._same(each, recipe) for each in own[family])
            usual = self._prices.surprise[self._kinds[mine]].sum()
            known = np.log(times) + usual if times else -np.inf
            weight += float(np.logaddexp(np.log(_NEW) + base, known) - np.log(whole + len(own[family]) + _NEW))
            own[family].append(recipe)
        lone = np.flatnonzero(cut < 0)
        lengths = [len(run) for run in np.split(lone, np.flatnonzero(np.diff(lone) > 1) + 1)]
        return weight + float(self._prices.unplanned(np.array(lengths)).sum())

    def _same(self, one: OpRecipe, other: OpRecipe) -> bool:
        if one == other or len(one) != len(other):
            return one == other
        return bool(np.diagonal(self._symbols.alike(np.array(one), np.array(other))).all())

    def _cut(self, shared: tuple[OpKind, OpRecipe] | None) -> Int64s:
        """The best cut where recipes of its ops tell nothing of one another, but for one that several may have."""
        count = len(self._kinds)
        until = np.full(count + 1, _NEVER)
        until[0] = 0.0
        came: list[tuple[Int64s, Int64s]] = []
        for op, family in enumerate(self._families):
            scores = self._scores[op]
            if shared is not None and shared[0] == family:
                scores = np.logaddexp(scores, self._with_recipes(op, {shared[1]: 1}))
            reached = until[:, None] + scores
            passed = reached.max(axis=0)[:, None] + self._gaps
            came.append((reached.argmax(axis=0), passed.argmax(axis=0)))
            until = passed.max(axis=0)
        found = np.full(count, -1, dtype=np.int64)
        end = count
        for op in range(len(came) - 1, -1, -1):
            begins, ends = came[op]
            end = int(ends[end])
            begin = int(begins[end])
            found[begin:end] = op
            end = begin
        return found

    def _free(self, lone: Bools) -> Floats:
        """What kernels from `i` until before `j` cost that are in no plan: only those that are so as it stands."""
        planned = np.concatenate(([0], np.cumsum(~lone)))
        length = np.arange(len(lone) + 1)[None, :] - np.arange(len(lone) + 1)[:, None]
        none = (planned[None, :] == planned[:, None]) & (length >= 0)
        return np.where(none, self._prices.unplanned(np.maximum(length, 0)), _NEVER)

    def _with_recipes(self, op: int, known: Mapping[OpRecipe, int]) -> Floats:
        """For kernels from `i` until before `j`: how likely they are all of an op where such recipes are known."""
        _, whole = self._seen[self._families[op]]
        count, mine = len(self._kinds), self._mine[op]
        scores: Floats = self._base[op] + np.log(_NEW / (whole + _NEW))
        numbers = np.unique([number for recipe in known for number in recipe]).astype(np.int64)
        fits = self._symbols.alike(numbers, mine)
        row_of = {number: row for row, number in enumerate(numbers.tolist())}
        for recipe, times in known.items():
            begins = np.arange(count + 1 - len(recipe)) if len(recipe) <= count else np.zeros(0, dtype=np.int64)
            for place, number in enumerate(recipe):
                begins = begins[fits[row_of[number], begins + place]]
                if not len(begins):
                    break
            if len(begins):
                ends = begins + len(recipe)
                alike = np.log(times / (whole + _NEW)) + self._usual[ends] - self._usual[begins]
                scores[begins, ends] = np.logaddexp(scores[begins, ends], alike)
        barred = self._barred[op]
        return np.where(barred[None, :] > barred[:, None], _NEVER, scores)


__all__ = ["CutPrices", "StretchCuts"]
