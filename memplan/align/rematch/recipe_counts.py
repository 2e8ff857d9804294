"""What kernels are to the op they are of, and how often which sequence of them stands where in a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from memplan.align.classes.tokens import TokenClasses
from memplan.core.arrays import Bools, Int64s

_MOST_RECIPES = 48
"""Recipes of a family that are looked at: those that stand most often."""
_HALF, _TWICE, _ROWS, _OTHER = 24, 25, 26, 27
"""Bits behind those of an op's operands: a half of the first one, twice it, one for each row, another size."""

OpRecipe = tuple[int, ...]
"""Numbers of `KernelSymbols`."""
OpPlace = tuple[int, int, int]
"""Classes of an op and of those before and behind it, -1 for none."""
OpKind = tuple[int, int]
"""The family of ops, and whether they are those before (1) or behind (2) a stretch, or in it (0)."""


class KernelSymbols:
    """
    Numbers for what kernels of a class are to ops of a class: their family, and sizes by those of the op's operands.

    By chance two operands of an op have one size, so that what is the one may be the other: numbers that may be of one
    thing are alike, though they differ.
    """

    def __init__(self, ops: TokenClasses, kernels: TokenClasses) -> None:
        self._reduced, self._main = ops.reduced, kernels.main
        self._of_ops, self._of_kernels = ops.operands, kernels.operands
        self._known: dict[tuple[int, int], int] = {}
        self._number: dict[tuple[int, ...], int] = {}
        self._texts = np.zeros((64, 1 + self._of_kernels.shape[1]), dtype=np.int64)

    def of(self, token: int, kinds: Int64s) -> Int64s:
        """The numbers of kernels of these classes as parts of an op of class `token`."""
        return np.array([self._of(token, kind) for kind in kinds.tolist()], dtype=np.int64)

    def _of(self, token: int, kind: int) -> int:
        found = self._known.get((token, kind))
        if found is None:
            sizes = self._of_kernels[kind]
            codes = [self._sizes(token, size) for size in sizes[sizes > 0].tolist()]
            text = (int(self._main[kind]), *codes)
            found = self._number.get(text)
            if found is None:
                found = self._number[text] = len(self._number)
                if found == len(self._texts):
                    self._texts = np.vstack([self._texts, np.zeros_like(self._texts)])
                self._texts[found, : len(text)] = text
            self._known[token, kind] = found
        return found

    def alike(self, ones: Int64s, others: Int64s) -> Bools:
        """Whether each of `ones`, in rows, may be of the same thing as each of `others`."""
        mine, theirs = self._texts[ones][:, None, :], self._texts[others][None, :, :]
        found: Bools = (mine[..., 0] == theirs[..., 0]) & ((mine == theirs) | (mine & theirs != 0))[..., 1:].all(axis=2)
        return found

    def _sizes(self, token: int, size: int) -> int:
        """What a size may be of the op's operands, as bits."""
        mine = self._of_ops[token]
        mine = mine[mine > 0].tolist()
        bits = sum(1 << place for place, each in enumerate(mine) if each == size)
        if mine:
            bits |= (size * 2 == mine[0]) << _HALF | (size == 2 * mine[0]) << _TWICE
        bits |= (size in self._reduced[token]) << _ROWS
        return bits or 1 << _OTHER


@dataclass(slots=True)
class RecipeCounts:
    """How often each recipe of a kind stands in all, and how often at each place; `version` counts changes."""

    whole: Counter[OpRecipe] = field(default_factory=Counter)
    by_place: defaultdict[OpPlace, Counter[OpRecipe]] = field(default_factory=lambda: defaultdict(Counter))
    version: int = 0

    def add(self, recipe: OpRecipe, place: OpPlace, times: int) -> None:
        """Count a recipe so many times more, or fewer."""
        self.whole[recipe] += times
        self.by_place[place][recipe] += times
        self.version += 1

    def elsewhere(self, places: Iterable[OpPlace]) -> tuple[Mapping[OpRecipe, int], int]:
        """How often each recipe stands at other places than these, and how often any does."""
        here = [self.by_place[place] for place in places if place in self.by_place]
        seen = {
            recipe: times - sum(each[recipe] for each in here)
            for recipe, times in self.whole.most_common(_MOST_RECIPES)
        }
        count = self.whole.total() - sum(each.total() for each in here)
        return {recipe: times for recipe, times in seen.items() if times > 0}, count


__all__ = ["KernelSymbols", "OpKind", "OpPlace", "OpRecipe", "RecipeCounts"]
