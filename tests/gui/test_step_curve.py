"""What a curve is asked for at every row of its picture is found once, however many values it has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memplan.gui.model.memory.step_curve import StepCurve

pytestmark = pytest.mark.gui


class Watched(np.ndarray[Any, np.dtype[np.int64]]):
    """Values that count how often all of them are looked at."""

    asked = 0

    def argmax(self, *arguments: Any, **named: Any) -> Any:
        Watched.asked += 1
        return super().argmax(*arguments, **named)

    def max(self, *arguments: Any, **named: Any) -> Any:
        Watched.asked += 1
        return super().max(*arguments, **named)


def test_the_peak_is_looked_for_once() -> None:
    values = np.array([3, 9, -1, 9, 4], dtype=np.int64).view(Watched)
    curve = StepCurve("curve", np.arange(5, dtype=np.int64) * 10, values)
    before = Watched.asked
    assert [curve.peak for _ in range(5)] == [(10, 9)] * 5
    assert curve.largest == 9
    assert Watched.asked == before


def test_the_largest_change_has_any_sign() -> None:
    time = np.arange(3, dtype=np.int64)
    assert StepCurve("change", time, np.array([1, -7, 2], dtype=np.int64), signed=True).largest == 7
    empty = StepCurve("empty", time[:0], time[:0])
    assert (empty.top, empty.largest) == (0, 0)
