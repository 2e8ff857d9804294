"""The profile of a rank of which only a `cluster_analysis_output` tells: its own directory is not there."""

from __future__ import annotations

from collections.abc import Sequence

from memplan.core.progress import Progress
from memplan.traces.cluster_files import ClusterFiles
from memplan.traces.notes import Notebook
from memplan.traces.profile import CommunicationTime, LinkTraffic, StepTimes
from memplan.traces.rank import RankReader
from memplan.traces.tables.step_tables import step_times_of


class ClusterReader(RankReader):
    """The steps, links and communications of one rank."""

    def __init__(self, files: ClusterFiles, rank: int, notes: Notebook) -> None:
        super().__init__(notes)
        self._files, self._rank = files, rank

    def steps(self, progress: Progress) -> list[StepTimes]:
        table = self._files.steps.get(self._rank)
        return [] if table is None else step_times_of(table, self._notes)

    def links(self, progress: Progress) -> Sequence[LinkTraffic]:
        return self._files.links.get(self._rank, ())

    def communications(self, progress: Progress) -> Sequence[CommunicationTime]:
        return self._files.communications.get(self._rank, ())
