"""The profile of a rank of which only a `cluster_analysis_output` tells: its own directory is not there."""

from __future__ import annotations

from memplan.core.progress import Progress
from memplan.traces.notes import Notebook
from memplan.traces.profile import StepTimes
from memplan.traces.rank import RankReader
from memplan.traces.tables.step_tables import step_times_of
from memplan.traces.tables.text_table import TextTable


class ClusterReader(RankReader):
    """The steps of one rank."""

    def __init__(self, steps: TextTable, notes: Notebook) -> None:
        super().__init__(notes)
        self._table = steps

    def steps(self, progress: Progress) -> list[StepTimes]:
        return step_times_of(self._table, self._notes)
