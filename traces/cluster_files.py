"""What the files of a `cluster_analysis_output` say of each rank, read once for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memplan.core.progress import Progress, silent
from memplan.traces.communication_times import read_cluster_communications
from memplan.traces.file_kinds import FileKind
from memplan.traces.notes import Notebook
from memplan.traces.profile import CommunicationTime, LinkTraffic
from memplan.traces.rank_links import read_links
from memplan.traces.tables.cluster_steps import steps_by_rank
from memplan.traces.tables.communication_tables import communications_in, links_in
from memplan.traces.tables.sqlite import Database
from memplan.traces.tables.text_table import TextTable


@dataclass(frozen=True, slots=True)
class ClusterFiles:
    """What the files of a cluster analysis say of each rank; links are with the rank that they start from."""

    steps: Mapping[int, TextTable]
    links: Mapping[int, Sequence[LinkTraffic]]
    communications: Mapping[int, Sequence[CommunicationTime]]

    @property
    def ranks(self) -> Iterable[int]:
        """All ranks that anything is said of."""
        return sorted({*self.steps, *self.links, *self.communications})


def read_cluster(
    files: Mapping[FileKind, Sequence[Path]], notes: Notebook, progress: Progress = silent
) -> ClusterFiles:
    """
    Read each file once, for all ranks; the pairs of a cluster's matrix are of ranks of the job, not of a group.

    A database gives what no other file gives.
    """
    uses = read_links(files.get(FileKind.CLUSTER_LINKS, ()), notes)
    told = read_cluster_communications(files.get(FileKind.CLUSTER_COMMUNICATIONS, ()), notes)
    paths = files.get(FileKind.CLUSTER_STEPS, ())
    databases = [Database(path, notes).watched(progress) for path in paths if path.suffix == ".db"]
    if not uses:
        uses = [
            use for data in databases for use in links_in(data.texts("ClusterCommunicationMatrix"), data.path, notes)
        ]
    if not told:
        told = _communications(databases, notes)
    links: dict[int, list[LinkTraffic]] = {}
    for use in uses:
        links.setdefault(use.source, []).append(use)
    tables = [path for path in paths if path.suffix != ".db"] or paths
    return ClusterFiles(steps_by_rank(tables, notes, progress), links, told)


def _communications(databases: Sequence[Database], notes: Notebook) -> dict[int, list[CommunicationTime]]:
    found: dict[int, list[CommunicationTime]] = {}
    for data in databases:
        times, packets = data.texts("ClusterCommunicationTime"), data.texts("ClusterCommunicationBandwidth")
        for rank, one in communications_in(times, packets, data.path, notes):
            if rank is not None:
                found.setdefault(rank, []).append(one)
    return {rank: sorted(own, key=lambda one: (one.start_ns, one.op)) for rank, own in found.items()}
