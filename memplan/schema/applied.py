"""What applying a plan set in a program, what it could not, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from memplan.core.units import format_bytes


@dataclass(frozen=True, slots=True)
class AppliedSetting:
    """One knob: its name, the value of the plan, whether it was set, and why or why not."""

    name: str
    value: str
    done: bool
    reason: str

    def __str__(self) -> str:
        return f"{'set' if self.done else 'not set'}: {self.name} = {self.value} ({self.reason})"


class AppliedPlan:
    """
    A plan at work in a program; `undo` puts back what the program had before.

    `peak` is the bytes of HBM in use at the fullest step with what was set: more than `planned`, the plan's own, where
    tensors stay that the plan moves, less where they come back later than the plan has them.
    """

    def __init__(
        self, settings: tuple[AppliedSetting, ...], undo: tuple[Callable[[], None], ...], *, planned: int, peak: int
    ) -> None:
        self.settings = settings
        self.planned, self.peak = planned, peak
        self._undo = list(undo)

    @property
    def done(self) -> tuple[AppliedSetting, ...]:
        """What was set."""
        return tuple(setting for setting in self.settings if setting.done)

    @property
    def left(self) -> tuple[AppliedSetting, ...]:
        """What could not be set."""
        return tuple(setting for setting in self.settings if not setting.done)

    def undo(self) -> None:
        """Put back what can be: recomputation; a second call does nothing. The size of a memory pool stays."""
        while self._undo:
            self._undo.pop()()

    def __str__(self) -> str:
        lines = [*map(str, self.settings)] or ["the plan sets nothing: the step fits as it is"]
        if self.peak > self.planned:
            told = f"{format_bytes(self.peak)} with what was set, {format_bytes(self.planned)} in the plan"
            lines.append(f"HBM at the peak: {told}")
        return "\n".join(lines)
