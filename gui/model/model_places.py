"""Kernels of the timeline in the words of the model that ran, where a plan's ops were found in the profile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from memplan.core.arrays import Int64s
from memplan.gui.model.kernels_of_slices import kernel_of_slice, kernels_of_slices
from memplan.traces.dictionary_array import DictionaryArray, dictionary_encoded
from memplan.traces.profile import Kernels, Slices

if TYPE_CHECKING:
    from memplan.compare import KernelPlaces


class ModelPlaces:
    """Where in the model each slice of a device track is: the kernel of the table with its start and length."""

    def __init__(self, places: KernelPlaces, kernels: Kernels) -> None:
        self.places, self.kernels = places, kernels
        self.texts: DictionaryArray = dictionary_encoded([places.place(row) for row in range(len(kernels))])
        """The place of every kernel, empty where it has none."""

    def row(self, kind: str, slices: Slices, index: int) -> int:
        """The kernel of one slice, -1 where it is none."""
        return kernel_of_slice(self.kernels, kind, slices, index)

    def labels(self, kind: str, slices: Slices, index: Int64s) -> Sequence[str]:
        """The places of those slices, empty where they have none."""
        texts = self.texts
        return [texts[row] if row >= 0 else "" for row in kernels_of_slices(self.kernels, kind, slices, index).tolist()]

    def matching(self, wanted: str) -> NDArray[np.bool_]:
        """Which kernels have a place that contains `wanted`, which is in lower case."""
        hit = np.array([wanted in text.casefold() for text in self.texts.values], dtype=np.bool_)
        return np.asarray(hit[self.texts.codes], dtype=np.bool_)

    def probability(self, row: int) -> float | None:
        """How likely a kernel's place is right; `None` where names told it."""
        return self.places.probability(row)
