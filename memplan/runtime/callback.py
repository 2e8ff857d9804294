"""`memplan.Callback`: a run of `mindspore.train.Model` watched against its plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memplan.readers.mindspore.cell import mindspore_module
from memplan.runtime.memory_counters import mindspore_counter
from memplan.runtime.watch import MemoryWatch, refuse_unfitting
from memplan.schema import Plan
from memplan.schema.applied import AppliedPlan


class Callback:
    """
    A callback of MindSpore that looks at memory once a step (`memplan.runtime.watch.MemoryWatch`).

    `applied` is what was set of the plan, `folder` gets the measured curve at the end. With `estimate`, a plan that
    does not fit raises `InputError` before the first step; nothing else that it does can end a run.
    """

    watch: MemoryWatch

    def __new__(cls, *_given: Any, **_named: Any) -> Callback:
        """An instance that MindSpore takes for a callback of its own."""
        if cls is not Callback:
            return super().__new__(cls)
        kind = type("Callback", (Callback, mindspore_module().train.Callback), {})
        made: Callback = super().__new__(kind)
        return made

    def __init__(
        self,
        plan: Plan,
        folder: str | Path | None = None,
        *,
        applied: AppliedPlan | None = None,
        tolerance: float = 0.03,
        estimate: bool = False,
    ) -> None:
        self._estimate = estimate
        counter = mindspore_counter()
        self.watch = MemoryWatch(plan, applied=applied, counter=counter, folder=folder, tolerance=tolerance)

    def on_train_begin(self, _run: Any) -> None:
        """Before the first step."""
        if self._estimate:
            refuse_unfitting(self.watch.plan)

    def on_train_step_begin(self, _run: Any) -> None:
        """Before a step."""
        self.watch.begin_step()

    def on_train_step_end(self, _run: Any) -> None:
        """After a step."""
        self.watch.end_step()

    def on_train_end(self, _run: Any) -> None:
        """After the last step."""
        self.watch.close()
