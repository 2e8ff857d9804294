"""
Where an op that is written out ends and the next one begins: a framework writes every op of a kind out alike.

What stands between two main kernels (products, attention) is a stretch of parts of several ops. A stretch is cut so
that ops of one family have one sequence of kernels, their recipe, wherever they stand: each of its kernels by family
and by the sizes of its operands in those of the op, so that queries and keys tell of one another. A cut is the
likelier the more often its recipes stand elsewhere; a recipe found nowhere else costs what the pair model asks for
such parts (a Chinese restaurant process over recipes, whose base measure is the pair model; compare Goldwater,
Griffiths and Johnson 2009, on words of a text without spaces). Counts of one place of a layer say nothing of that place
itself, for it is the same in every layer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from memplan.align.assignment import HOW, KernelAssignment, MatchedBy
from memplan.align.likelihood import Likelihoods, pair_model
from memplan.align.op_families import family_table
from memplan.align.planned_sequence import PlannedSequence
from memplan.align.rematch.part_stretches import PartStretch, part_stretches
from memplan.align.tokens import TokenClasses
from memplan.core.arrays import Bools, Floats, Int32s, Int64s

_ROUNDS = 3
"""Times that all stretches are cut anew: recipes of one change the cuts of others."""
_NEW = 1.0
"""How many times any recipe counts as seen that wasn't."""
_CLEARLY = 4.0
"""Natural logarithm of how much likelier a cut is at least than the one that stands, which else stays."""
_NEVER = -1e9

Recipe = tuple[int, ...]
Place = tuple[int, int, int]


class _Symbols:
    """
    Numbers for what kernels of a class are to ops of a class, and which of these may be alike to ops of other sizes.

    By chance two operands of an op have one size, so that what is the one may be the other.
    """

    def __init__(self, ops: TokenClasses, kernels: TokenClasses) -> None:
        self._ops, self._kernels = ops, kernels
        self._known: dict[tuple[int, int], int] = {}
        self._number: dict[tuple[int, tuple[frozenset[int], ...]], int] = {}
        self._texts: list[tuple[int, tuple[frozenset[int], ...]]] = []
        self._alike = np.zeros((0, 0), dtype=np.bool_)

    def of(self, token: int, kind: int) -> int:
        found = self._known.get((token, kind))
        if found is None:
            sizes = self._kernels.operands[kind]
            text = int(self._kernels.main[kind]), tuple(self._sizes(token, size) for size in sizes[sizes > 0].tolist())
            if text not in self._number:
                self._number[text] = len(self._number)
                self._texts.append(text)
            found = self._known[token, kind] = self._number[text]
        return found

    def alike(self) -> NDArray[np.bool_]:
        """For each two numbers whether they may be of one thing."""
        known, count = len(self._alike), len(self._texts)
        if known < count:
            found = np.zeros((count, count), dtype=np.bool_)
            found[:known, :known] = self._alike
            for one in range(known, count):
                family, sizes = self._texts[one]
                for other, (other_family, other_sizes) in enumerate(self._texts[: one + 1]):
                    if family == other_family and len(sizes) == len(other_sizes):
                        alike = all(mine & theirs for mine, theirs in zip(sizes, other_sizes, strict=True))
                        found[one, other] = found[other, one] = alike
            self._alike = found
        return self._alike

    def _sizes(self, token: int, size: int) -> frozenset[int]:
        """What a size may be of the op's operands: each, a half of or twice the first one, one for each row."""
        mine = self._ops.operands[token]
        mine = mine[mine > 0].tolist()
        codes = {place for place, each in enumerate(mine) if each == size}
        codes |= {-1} if mine and size * 2 == mine[0] else set()
        codes |= {-2} if mine and size == 2 * mine[0] else set()
        codes |= {-3} if size in self._ops.reduced[token] else set()
        return frozenset(codes or {-4})


@dataclass(slots=True)
class _Recipes:
    """How often each recipe of a family stands at each kind of place: between which classes of ops."""

    count: dict[Recipe, Counter[Place]] = field(default_factory=lambda: defaultdict(Counter))
    whole: Counter[Place] = field(default_factory=Counter)

    def add(self, recipe: Recipe, place: Place, times: int) -> None:
        self.count[recipe][place] += times
        self.whole[place] += times

    def elsewhere(self, places: set[Place]) -> tuple[dict[Recipe, int], int]:
        """How often each recipe stands at other places, and how often any does."""
        seen = {
            recipe: by_place.total() - sum(by_place[place] for place in places)
            for recipe, by_place in self.count.items()
        }
        seen = {recipe: times for recipe, times in seen.items() if times > 0}
        return seen, sum(seen.values())


def take_recipes(
    sequence: PlannedSequence,
    ratios: Likelihoods,
    kernels: TokenClasses,
    kernel_class: Int32s,
    inside: Bools,
    found: KernelAssignment,
) -> None:
    """Change `found` in place where ops between two main kernels are likelier cut otherwise; leave those `inside`."""
    stretches = part_stretches(sequence, kernels, kernel_class, inside, found)
    if not stretches:
        return
    _Cutter(sequence, ratios, kernels, kernel_class, found, stretches).run()


class _Cutter:
    """Cuts of all stretches, and what recipes they make."""

    def __init__(
        self,
        sequence: PlannedSequence,
        ratios: Likelihoods,
        kernels: TokenClasses,
        kernel_class: Int32s,
        found: KernelAssignment,
        stretches: list[PartStretch],
    ) -> None:
        self.sequence, self.kernel_class, self.found = sequence, kernel_class, found
        self.ratios, self.stretches = ratios, stretches
        self.symbols = _Symbols(sequence.classes, kernels)
        self.recipes: dict[tuple[int, int], _Recipes] = defaultdict(_Recipes)
        tiny = np.finfo(np.float32).tiny
        share = np.bincount(kernel_class, minlength=len(kernels)) / max(1, len(kernel_class))
        self.surprise = -np.log(np.maximum(share, tiny))
        self.core, self.part, self.again = (
            np.log(np.maximum(each, tiny)) for each in (ratios.core, ratios.behind, ratios.again)
        )
        prices = pair_model()["prices"]
        self.strange = float(pair_model()["weights"]["stranger"]) + 0.5
        self.unplanned, self.unplanned_on = np.log(prices["unplanned"]), np.log(prices["unplanned_on"])
        self.prices = {name: float(np.log(prices[name])) for name in prices if prices[name] > 0}

    def run(self) -> None:
        cuts = [stretch.cut for stretch in self.stretches]
        for stretch, cut in zip(self.stretches, cuts, strict=True):
            self._count(stretch, cut, len(stretch.begins))
        margins = [0.0] * len(cuts)
        for _ in range(_ROUNDS):
            changed = False
            for number, stretch in enumerate(self.stretches):
                if not stretch.open:
                    continue
                best, margin = self._best(stretch, cuts[number])
                if margin > _CLEARLY and not np.array_equal(best, cuts[number]):
                    self._count(stretch, cuts[number], -len(stretch.begins))
                    self._count(stretch, best, len(stretch.begins))
                    cuts[number], margins[number], changed = best, margin, True
            if not changed:
                break
        for stretch, cut, margin in zip(self.stretches, cuts, margins, strict=True):
            if not np.array_equal(cut, stretch.cut):
                self._take(stretch, cut, margin)

    def key(self, stretch: PartStretch, op: int) -> tuple[tuple[int, int], Place]:
        """Of which recipes an op's is one: of its family, and before or behind a main kernel of it apart."""
        tokens = stretch.tokens.tolist()
        before = tokens[op - 1] if op else -1
        behind = tokens[op + 1] if op + 1 < len(tokens) else -1
        return (int(self.sequence.classes.main[tokens[op]]), self._end(stretch, op)), (tokens[op], before, behind)

    def _count(self, stretch: PartStretch, cut: Int64s, times: int) -> None:
        for op in range(len(stretch.tokens)):
            token, kinds = int(stretch.tokens[op]), stretch.kinds[cut == op]
            best = np.maximum(np.maximum(self.core[token, kinds], self.part[token, kinds]), self.again[token, kinds])
            if (best <= self.strange).any():
                continue  # what can't be of the op tells nothing of it
            recipe = tuple(self.symbols.of(token, kind) for kind in kinds.tolist())
            family, place = self.key(stretch, op)
            self.recipes[family].add(recipe, place, times)

    def _base(self, stretch: PartStretch, op: int) -> Floats:
        """For kernels from `i` until before `j`: by how much likelier they are of that op than nobody's, as a model says."""
        token, count = int(stretch.tokens[op]), len(stretch.kinds)
        core, part = self.core[token, stretch.kinds], self.part[token, stretch.kinds]
        rule = self.sequence.rules[token]
        stay = self.prices["stay_written_out" if rule.written_out else "stay_with_parts" if rule.parts else "stay"]
        more = np.maximum(part + stay, self.again[token, stretch.kinds])
        sums = np.concatenate(([0.0], np.cumsum(more)))
        base: Floats = sums[None, :] - sums[:, None]
        if self._end(stretch, op) == 0:
            bare = self.prices["bare_written_out" if rule.written_out else "bare"]
            gain = np.where(core >= part, core - more + stay - bare, 0.0)
            best = np.zeros((count + 1, count + 1))
            for begin in range(count):
                best[begin, begin + 1 :] = np.maximum.accumulate(gain[begin:])
            base += np.maximum(best, 0.0) + bare - stay
            np.fill_diagonal(base, self.prices["skip"])
        base[np.tril_indices(count + 1, -1)] = _NEVER
        return base

    @staticmethod
    def _end(stretch: PartStretch, op: int) -> int:
        return 1 if op == 0 else 2 if op == len(stretch.tokens) - 1 else 0

    def _best(self, stretch: PartStretch, cut: Int64s) -> tuple[Int64s, float]:
        """The best cut and by how much it is likelier than `cut`."""
        scoring = _Scoring(self, stretch)
        shared = {}
        keys = [family for family, _ in scoring.keys]
        for op, key in enumerate(keys):
            for recipe in (scoring.recipe(cut, op), *(scoring.twice(op, each) for each in range(op) if keys[each] == key)):
                if keys.count(key) > 1 and len(recipe) > 1:
                    shared[key, recipe] = None
        tried = [scoring.best(cut, None), *(scoring.best(cut, each) for each in shared)]
        scored = [(scoring.of(each), number) for number, each in enumerate(tried)]
        best = max(scored)
        return tried[best[1]], best[0] - scoring.of(cut)

    def _take(self, stretch: PartStretch, cut: Int64s, margin: float) -> None:
        changed = np.flatnonzero(cut != stretch.cut)
        kernel = stretch.begins[:, None] + stretch.places[None, changed]
        kernel = stretch.kernels[kernel].reshape(-1)
        row = np.where(cut[changed] >= 0, stretch.offsets[np.maximum(cut[changed], 0)], 0)
        rows = stretch.rows[:, None] + row[None, :]
        rows = np.where(cut[changed][None, :] >= 0, rows, -1).reshape(-1)
        found = self.found
        found.row[kernel] = found.first[kernel] = found.last[kernel] = rows
        kind = self.kernel_class[kernel]
        token = self.sequence.token[np.maximum(rows, 0)]
        main = (rows >= 0) & (self.ratios.core[token, kind] >= self.ratios.behind[token, kind])
        found.core[kernel] = main
        found.how[kernel] = np.where(main, HOW.index(MatchedBy.KERNEL), HOW.index(MatchedBy.PART))
        sure = 1.0 / (1.0 + np.exp(-margin))
        found.chance[kernel] = found.scope_chance[kernel] = sure


class _Scoring:
    """Cuts of one kind of stretches: how likely they are by all that is known but of this kind itself."""

    def __init__(self, cutter: _Cutter, stretch: PartStretch) -> None:
        self.stretch, self.cutter = stretch, cutter
        ops = range(len(stretch.tokens))
        self.keys = [cutter.key(stretch, op) for op in ops]
        places: dict[tuple[int, int], set[Place]] = defaultdict(set)
        for family, place in self.keys:
            places[family].add(place)
        self.seen = {family: cutter.recipes[family].elsewhere(mine) for family, mine in places.items()}
        self.base = [cutter._base(stretch, op) for op in ops]
        kinds = stretch.kinds.tolist()
        self.symbols = [
            np.array([cutter.symbols.of(token, kind) for kind in kinds], dtype=np.int64) for token in stretch.tokens.tolist()
        ]
        self.usual = np.concatenate(([0.0], np.cumsum(cutter.surprise[stretch.kinds])))
        self.alike = cutter.symbols.alike()
        self.scores = [self._scores(op, self.seen[self.keys[op][0]][0]) for op in ops]
        self.gap = self._gaps(stretch.cut < 0)

    def recipe(self, cut: Int64s, op: int) -> Recipe:
        return tuple(self.symbols[op][cut == op].tolist())

    def twice(self, op: int, other: int) -> Recipe:
        """The longest sequence that stands twice, once as what `other` is made of and behind that as what `op` is."""
        fits = self.alike[self.symbols[other][:, None], self.symbols[op]]
        count = len(fits)
        longest, at = 0, 0
        run = np.zeros(count + 1, dtype=np.int64)
        for first in range(count - 1, -1, -1):
            run[:-1] = np.where(fits[first], run[1:] + 1, 0)
            run[-1] = 0
            whole = np.minimum(run[:-1], np.arange(count) - first)
            if whole.max() > longest:
                longest, at = int(whole.max()), first
        return tuple(self.symbols[other][at : at + longest].tolist())

    def of(self, cut: Int64s) -> float:
        """How likely a cut is: recipes that it has twice tell of one another."""
        own: dict[tuple[tuple[int, int], Recipe], int] = defaultdict(int)
        many: dict[tuple[int, int], int] = defaultdict(int)
        score = 0.0
        for op, (family, _) in enumerate(self.keys):
            mine = np.flatnonzero(cut == op)
            recipe = self.recipe(cut, op)
            runs = np.split(mine, np.flatnonzero(np.diff(mine) > 1) + 1) if len(mine) else []
            base = sum(float(self.base[op][run[0], run[-1] + 1]) for run in runs) if runs else float(self.base[op][0, 0])
            seen, whole = self.seen[family]
            whole += many[family]
            times = 0
            if len(runs) < 2:
                times = sum(count for each, count in seen.items() if self._same(each, recipe))
                times += sum(count for (which, each), count in own.items() if which == family and self._same(each, recipe))
            usual = float(np.sum(self.cutter.surprise[self.stretch.kinds[mine]]))
            known = np.log(times) + usual if times else -np.inf
            score += float(np.logaddexp(np.log(_NEW) + base, known) - np.log(whole + _NEW))
            own[family, recipe] += 1
            many[family] += 1
        lone = cut < 0
        before = np.append(False, lone[:-1])
        return score + float(np.sum(np.where(lone, np.where(before, self.cutter.unplanned_on, self.cutter.unplanned), 0.0)))

    def _same(self, one: Recipe, other: Recipe) -> bool:
        return one == other or (len(one) == len(other) and all(self.alike[pair] for pair in zip(one, other, strict=True)))

    def _where(self, recipe: Int64s, symbols: Int64s) -> Int64s:
        """Where in a sequence a recipe may stand."""
        begins = np.flatnonzero(self.alike[recipe[0], symbols[: len(symbols) + 1 - len(recipe)]])
        for place in range(1, len(recipe)):
            if not len(begins):
                break
            begins = begins[self.alike[recipe[place], symbols[begins + place]]]
        return begins

    def best(self, cut: Int64s, shared: tuple[tuple[int, int], Recipe] | None) -> Int64s:
        """The best cut where each op is alone, but for one recipe `shared` by several."""
        count, ops = len(self.stretch.kinds), len(self.keys)
        until = np.full(count + 1, _NEVER)
        until[0] = 0.0
        came: list[tuple[Int64s, Int64s]] = []
        for op in range(ops):
            scores = self.scores[op]
            if shared is not None and shared[0] == self.keys[op][0]:
                known = dict(self.seen[shared[0]][0])
                known[shared[1]] = known.get(shared[1], 0) + 1
                scores = self._scores(op, known)
            reached = until[:, None] + scores
            after = reached.max(axis=0)
            passed = after[:, None] + self.gap
            came.append((reached.argmax(axis=0), passed.argmax(axis=0)))
            until = passed.max(axis=0)
        best = np.full(count, -1, dtype=np.int64)
        end = count
        for op in range(ops - 1, -1, -1):
            own, passed_at = came[op]
            end = int(passed_at[end])
            begin = int(own[end])
            best[begin:end] = op
            end = begin
        return best

    def _gaps(self, lone: NDArray[np.bool_]) -> Floats:
        """What kernels from `i` until before `j` cost that are in no plan: only those that are so now."""
        count = len(lone)
        stretch = np.cumsum(~lone)
        free = np.concatenate(([0], stretch))[None, :] == np.concatenate(([0], stretch))[:, None]
        length = np.arange(count + 1)[None, :] - np.arange(count + 1)[:, None]
        price = self.cutter.unplanned + self.cutter.unplanned_on * (length - 1)
        return np.where(length == 0, 0.0, np.where(free & (length > 0), price, _NEVER))

    def _scores(self, op: int, known: Mapping[Recipe, int]) -> Floats:
        """For kernels from `i` until before `j`: how likely they are all of an op, where such recipes are known."""
        _, whole = self.seen[self.keys[op][0]]
        count = len(self.stretch.kinds)
        scores: Floats = self.base[op] + np.log(_NEW / (whole + _NEW))
        for recipe, times in known.items():
            size = len(recipe)
            if size > count:
                continue
            begins = self._where(np.array(recipe), self.symbols[op]) if size else np.arange(count + 1)
            alike = np.log(times / (whole + _NEW)) + self.usual[begins + size] - self.usual[begins]
            scores[begins, begins + size] = np.logaddexp(scores[begins, begins + size], alike)
        return scores


__all__ = ["take_recipes"]
