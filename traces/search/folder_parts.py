"""
Which files of one folder are one profile, where several producers, or several ranks, left theirs side by side.

People gather what they were sent: tables of a service beside kernels, databases of several ranks in one folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from memplan.traces.file_kinds import PROFILE_KINDS, FileKind

_MEASURED = PROFILE_KINDS - {FileKind.MINDIE, FileKind.OPERATOR}
"""What a rank's own profiler writes."""
_HANDLED = re.compile(r".*\.pt\.trace\.json(?:\.gz)?", re.IGNORECASE)
_NUMBERED = re.compile(r"(?:ascend_pytorch_profiler|ascend_mindspore_profiler|profiler_info)_(\d{1,6})\.(?:db|json)")


def folder_parts(files: Sequence[Path], kinds: Mapping[Path, FileKind | None]) -> list[list[Path]]:
    """
    The files of one folder as one list for each profile, the profiler's own first.

    Tables of a service, traces of torch.profiler and databases of several ranks are profiles of their own where other
    files lie beside them; files that no producer claims stay with the first.
    """
    own = [file for file in files if kinds[file] in _MEASURED]
    handled = [file for file in own if _HANDLED.fullmatch(file.name)]
    handled = handled if len(handled) < len(own) else []
    service = [file for file in files if kinds[file] is FileKind.MINDIE] if own else []
    apart = {*handled, *service}
    rest = [file for file in files if file not in apart]
    return [*_by_number(rest, kinds), *(part for part in (handled, service) if part)]


def _by_number(files: list[Path], kinds: Mapping[Path, FileKind | None]) -> list[list[Path]]:
    """One list for each rank whose number databases in one folder bear, with the rank's own note of itself."""
    numbers = {file: match.group(1) for file in files if (match := _NUMBERED.fullmatch(file.name))}
    ranks = [numbers[file] for file in files if file in numbers and kinds[file] is FileKind.DATABASE]
    if len(set(ranks)) < 2:
        return [files]
    common = [file for file in files if file not in numbers]
    parts = [[file for file in files if numbers.get(file) == rank] for rank in dict.fromkeys(ranks)]
    return [*parts, *([common] if any(kinds[file] in _MEASURED for file in common) else [])]
