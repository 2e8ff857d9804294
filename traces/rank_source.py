"""Where the files of one rank are, and what its own small files say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from memplan.traces.devices import DeviceShare
from memplan.traces.file_kinds import CLUSTER_KINDS, FileKind


@dataclass(frozen=True, slots=True)
class RankSource:
    """Where the files of one rank are. `info` and `metadata` are the parsed small JSON files, empty where absent."""

    rank: int
    folder: Path
    producer: str
    files: Mapping[FileKind, Sequence[Path]]
    info: Mapping[str, object] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)
    device: DeviceShare | None = None
    """The one whose data is this rank's, where the files hold that of several devices."""
    metrics: Sequence[Path] = ()
    """Kernel tables of further runs of the same program, each with other counters."""

    def of(self, kind: FileKind) -> Sequence[Path]:
        """The rank's files of one kind."""
        return self.files.get(kind, ())

    @property
    def of_cluster(self) -> bool:
        """Whether only files that tell of all ranks of a job tell of this one."""
        return not self.files.keys().isdisjoint(CLUSTER_KINDS)
