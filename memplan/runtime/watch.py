"""Memory of a run watched against its plan: one look a step, a warning on drift, the curve in a file."""

from __future__ import annotations

import csv
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from memplan.core.errors import InputError
from memplan.core.files import replacing_file
from memplan.core.units import MIB, format_bytes, format_share, microseconds
from memplan.runtime.memory_counters import MemoryCounter, torch_counter
from memplan.runtime.memory_errors import tells_of_lacking_memory
from memplan.schema import Plan, Tier, plan_peak
from memplan.schema.applied import AppliedPlan

logger = logging.getLogger("memplan")

_BLAMED = 3
_OUTPUT = "ASCEND_PROFILER_OUTPUT"
_COLUMNS = (
    "Component", "Timestamp(us)", "Total Allocated(MB)", "Total Reserved(MB)", "Total Active(MB)", "Stream Ptr",
    "Device Type",
)  # fmt: skip
_MOST_SAMPLES = 1_000_000
"""Looks that are kept; later ones take the place of every second earlier one."""


@dataclass(frozen=True, slots=True)
class MemorySample:
    """One look: when (ns since 1970), bytes in use, bytes kept, and the most in use during the step that ended."""

    time_ns: int
    allocated: int
    reserved: int
    peak: int


class Shielded:
    """A context whose errors are said once and go no further: no run of a user ends because of what watches it."""

    def __init__(self) -> None:
        self.failed = False

    def __enter__(self) -> Shielded:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if kind is None or not issubclass(kind, Exception):
            return False
        if not self.failed:
            logger.warning("memplan stops watching memory: %s: %s", kind.__name__, error)
        self.failed = True
        return True


class MemoryWatch:
    """
    Watches the steps of a run: `with watch.step(): ...`, or `begin_step` and `end_step`.

    Warns, through the logger `memplan`, where a step's peak leaves the planned one by more than `tolerance` of it, once
    for each such part. `applied` is what was set of the plan, whose peak counts then: hooks bring tensors back at other
    times than the plan does. `counter` is who counts (default: torch's device), `folder` where `close` leaves the
    measured curve for `memplan compare` and the app. Nothing it does raises; `spent_ns` is the CPU time it took.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        applied: AppliedPlan | None = None,
        counter: MemoryCounter | None = None,
        folder: str | Path | None = None,
        tolerance: float = 0.03,
    ) -> None:
        self.plan, self.tolerance = plan, tolerance
        self.samples: list[MemorySample] = []
        self.steps = self.spent_ns = 0
        self._folder = None if folder is None else Path(folder)
        self._shield = Shielded()
        self._warned = 0
        self._every = 1
        use = plan.tier(Tier.HBM)
        planned = None if use is None else use.peak
        self.planned_peak = planned if applied is None else applied.peak
        self.counter: MemoryCounter | None = counter
        if counter is None:
            with self._shield:
                self.counter = torch_counter()

    @property
    def working(self) -> bool:
        """Whether it still watches: an error of its own ends that."""
        return not self._shield.failed

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step of the run; an out-of-memory error that ends it is told with what the plan says of it."""
        self.begin_step()
        try:
            yield
        except Exception as error:
            self.tell_failure(error)
            raise
        self.end_step()

    def begin_step(self) -> None:
        """Before a step."""
        if self._shield.failed or self.counter is None:
            return
        began = time.thread_time_ns()
        with self._shield:
            self.counter.reset()
        self.spent_ns += time.thread_time_ns() - began

    def end_step(self) -> None:
        """After a step."""
        if self._shield.failed or self.counter is None:
            return
        began = time.thread_time_ns()
        with self._shield:
            self.steps += 1
            counter = self.counter
            sample = MemorySample(time.time_ns(), counter.allocated(), counter.reserved(), counter.peak())
            if self.steps % self._every == 0:
                self.samples.append(sample)
            if len(self.samples) >= _MOST_SAMPLES:
                self.samples, self._every = self.samples[::2], self._every * 2
            self._judge(sample.peak)
        self.spent_ns += time.thread_time_ns() - began

    def _judge(self, peak: int) -> None:
        if self.counter is None or not self.counter.counts_tensors or not self.planned_peak:
            return
        off = peak / self.planned_peak - 1
        part = int(abs(off) / self.tolerance)
        if part > self._warned:
            self._warned = part
            logger.warning("%s", self._drift(peak, off))

    def _drift(self, peak: int, off: float) -> str:
        planned = self.planned_peak or 0
        text = (
            f"step {self.steps}: the peak is {format_bytes(peak)}, {format_share(abs(off), 1)} "
            f"{'over' if off > 0 else 'under'} the planned {format_bytes(planned)}"
        )
        return text + self._blame(peak - planned)

    def _blame(self, excess: int) -> str:
        blamed = self.blamed(excess)
        return f"; of that size and released by then in the plan: {', '.join(blamed)}" if blamed else ""

    def blamed(self, excess: int) -> tuple[str, ...]:
        """Tensors that are gone at the plan's peak and whose sizes are nearest to `excess` bytes, the nearest first."""
        peak = plan_peak(self.plan)
        if peak is None or excess <= 0:
            return ()
        gone = [
            tensor
            for tensor in self.plan.tensors
            if not tensor.persistent and tensor.end <= peak.step and tensor.nbytes <= 2 * excess
        ]
        nearest = sorted(gone, key=lambda tensor: (abs(tensor.nbytes - excess), tensor.index))[:_BLAMED]
        return tuple(f"{tensor.name} ({format_bytes(tensor.nbytes)})" for tensor in nearest)

    def tell_failure(self, error: BaseException) -> None:
        """
        Say, where `error` is of memory that ran out, what the plan has at its peak, the most that was in use, and where
        that is more, tensors of that size that should be gone.
        """
        with self._shield:
            if not isinstance(error, MemoryError) and not tells_of_lacking_memory(str(error)):
                return
            peak = plan_peak(self.plan)
            held = () if peak is None else peak.shares[:_BLAMED]
            shares = ", ".join(f"{share.kind} {format_bytes(share.nbytes)}" for share in held)
            planned = "unknown" if self.planned_peak is None else format_bytes(self.planned_peak)
            told = f"out of memory in step {self.steps + 1}: "
            if self.counter is not None:
                # While the error rises through the step, its tensors are freed: the most of the step tells of them.
                most = self.counter.peak()
                told += f"{format_bytes(most)} were in use, "
            told += f"planned peak {planned} ({shares})"
            if self.counter is not None and self.counter.counts_tensors and self.planned_peak:
                told += self._blame(most - self.planned_peak)
            logger.warning("%s", told)
            self.close()

    def close(self) -> Path | None:
        """Write the measured curve where one is wanted; the folder, which `memplan.open_profile` reads."""
        if self._folder is None or not self.samples or self.counter is None:
            return None
        with self._shield:
            output = self._folder / _OUTPUT
            output.mkdir(parents=True, exist_ok=True)
            with replacing_file(output / "memory_record.csv") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(_COLUMNS)
                for sample in self.samples:
                    rows = (sample.peak, sample.allocated) if self.counter.counts_tensors else (sample.allocated,)
                    for at, held in enumerate(rows):
                        stamp = microseconds(sample.time_ns + at)
                        kept = sample.reserved / MIB
                        writer.writerow([self.counter.component, stamp, held / MIB, kept, held / MIB, "", "NPU:0"])
            with replacing_file(self._folder / "profiler_info_0.json") as file:
                json.dump({"memplan_watch": {"steps": self.steps, "chip": self.plan.chip}}, file)
            return self._folder
        return None


def refuse_unfitting(plan: Plan) -> None:
    """Raise `InputError` for a plan that says that the step does not fit."""
    if not plan.fits:
        raise InputError(
            f"the step does not fit on {plan.chip}: {format_bytes(plan.missing_bytes)} are missing",
            remedy="plan with more HBM, recompute or split the model; see `memplan plan`",
        )
