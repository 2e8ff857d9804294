"""Opens what a window is asked to show: plans, graphs and profiles, told apart by what they are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from memplan.core.errors import InputError
from memplan.core.progress import Progress, silent
from memplan.core.sentence import Sentence, Text
from memplan.gui.model.document import make_document, on_own_clock
from memplan.gui.model.session.plan_notes import note_in_words
from memplan.gui.model.session.session import Session
from memplan.gui.model.timeline.drawing_loops import DrawingLoops
from memplan.traces.profile import Note, NoteSeverity

if TYPE_CHECKING:
    from memplan.readers.sniff import ContentKind
    from memplan.requests.plan_request import PlanRequest
    from memplan.schema import Plan
    from memplan.traces.directory import Profile


@dataclass(frozen=True, slots=True)
class Request:
    """
    What to open together; graphs are planned first, for `chip`, with `shapes` for inputs that leave theirs open.

    `step` says which step of the model a config.json is planned for, `compared_step` which one of the profile a plan is
    compared with: by default the one of median length. With `own_clock` the plan keeps its own pace beside the run.
    """

    plan: Path | None = None
    profile: Path | None = None
    rank: int | None = None
    chip: str | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    step: PlanRequest | None = None
    compared_step: int | None = None
    own_clock: bool = False

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files and folders."""
        return tuple(path for path in (self.plan, self.profile) if path is not None)


PLAN_PATTERNS = "*.json *.mindir *.ir *.onnx *.csv *.log *.txt"
"""Names that plans, ours and others', and graphs usually have; their content says what they are."""


def request_for(paths: list[Path], current: Request = Request()) -> Request:
    """
    `current` with `paths` put where they belong: a folder, a file of one or an archive is a profile, other files plans.

    A memory snapshot is a profile by itself, another file of one is opened with its whole folder. The chip
    of `current` stays for graphs; what holds a plan is shown as it stands.
    """
    from memplan.readers.sniff import ContentKind  # with every reader of graphs: a window starts without

    plan, profile, rank, chip = current.plan, current.profile, current.rank, current.chip
    for path in paths:
        kind = kind_of_path(path)
        if kind in (ContentKind.FOLDER, ContentKind.PROFILE_ARCHIVE):
            profile, rank = path, None
        elif kind is ContentKind.PROFILE_FILE:
            profile, rank = (path if _stands_alone(path) else path.parent), None
        else:
            plan = path
            chip = None if kind is not None and kind.is_plan else chip
    return Request(plan, profile, rank, chip)


def _stands_alone(path: Path) -> bool:
    """Whether a file is a profile by itself, as a snapshot is: its neighbours are other moments, not its parts."""
    from memplan.traces.file_kinds import FileKind, file_kind

    return file_kind(path) is FileKind.SNAPSHOT


def requests_for(paths: list[Path], current: Request = Request()) -> list[Request]:
    """
    What opening `paths` together means, one request a document.

    One plan and one profile make one document, and so does one of them that `current` lacks with what it has. Several
    plans or several profiles make several documents; a single plan goes with each of several profiles.
    """
    plans: list[Path] = []
    profiles: list[Path] = []
    for path in paths:
        asked = request_for([path])
        plans += [asked.plan] if asked.plan is not None and asked.plan not in plans else []
        profiles += [asked.profile] if asked.profile is not None and asked.profile not in profiles else []
    if len(plans) <= 1 and len(profiles) <= 1:
        if plans and not profiles and current.plan is None:
            return [request_for(plans, current)]
        if profiles and not plans and current.profile is None:
            return [replace(current, profile=profiles[0], rank=None)]
    if len(plans) == 1 and profiles:
        return [Request(plans[0], profile) for profile in profiles]
    if len(profiles) == 1 and plans:
        return [Request(plan, profiles[0]) for plan in plans]
    return [*(Request(plan) for plan in plans), *(Request(None, profile) for profile in profiles)]


def kind_of_path(path: Path) -> ContentKind | None:
    """What `path` is; `None` where it can't be read, which opening it then says."""
    from memplan.readers.sniff import sniff

    try:
        return sniff(path)
    except InputError:
        return None


def wants_chip(request: Request) -> bool:
    """Whether `request` names a graph and no chip to plan it for; dumps that hold a plan too need none."""
    if request.step is not None:
        return False
    kind = kind_of_path(request.plan) if request.plan is not None and request.chip is None else None
    return kind is not None and kind.is_graph and not kind.is_plan


def wants_step(request: Request) -> bool:
    """Whether `request` names a model's config.json and no step to plan it for."""
    if request.plan is None or request.step is not None:
        return False
    from memplan.readers.sniff import ContentKind

    return kind_of_path(request.plan) is ContentKind.MODEL_CONFIG


def open_session(request: Request, progress: Progress = silent, loops: DrawingLoops | None = None) -> Session:
    """
    Everything that `request` names, ready to show, by `loops` where a window draws it. Long; meant for a worker.

    Raises `InputError` for files that can't be used and `CancelledError` when `progress` says so.
    """
    plan = _open_plan(request, request.plan, progress) if request.plan is not None else None
    profile: Profile | None = None
    if request.profile is not None:
        from memplan.traces import open_profile  # with its readers: a window starts without

        progress(0, 1, request.profile.name)
        profile = open_profile(request.profile)
        if request.rank is not None and request.rank not in profile.ranks:
            raise InputError("rank {} is not in this profile", request.rank, path=request.profile)
    document = make_document(
        plan, profile, plan_path=request.plan, rank=request.rank, step=request.compared_step, progress=progress
    )
    document = on_own_clock(document, request.own_clock)
    progress(0, 1, "views")
    return Session(document, loops=loops)


def _open_plan(request: Request, path: Path, progress: Progress) -> Plan:
    from memplan.imports import read_plan
    from memplan.readers.sniff import ContentKind, sniff

    remedies = {
        ContentKind.CALIBRATION: Sentence("give it to `memplan plan --calibration`"),
        ContentKind.TEXT: Sentence("open a plan, a graph or a profile"),
    }
    progress(0, 1, path.name)
    kind = sniff(path)
    if request.step is not None and kind.is_graph:
        return replace(request.step, source=path).plan(shapes=dict(request.shapes) or None, progress=progress)
    if kind.is_plan and (request.chip is None or not kind.is_graph):
        return read_plan(path)
    if kind is ContentKind.MODEL_CONFIG:
        if request.step is None:
            raise InputError("a model is planned for a step, and none is chosen", path=path, remedy="choose one")
        return replace(request.step, source=path).plan(progress=progress)
    if not kind.is_graph:
        raise InputError("this is {}", Sentence(kind.value), path=path, remedy=remedies.get(kind))
    if request.chip is None:
        raise InputError("a graph needs a chip to be planned for", path=path, remedy="choose one")
    import memplan

    return memplan.plan(path, chip=request.chip, shapes=dict(request.shapes), progress=progress)


@dataclass(frozen=True, slots=True)
class FileRemark:
    """A line about the open files; `lost` is whether something of them is missing, wrong or inexact."""

    text: Text
    lost: bool = True


def _gathered(notes: Iterable[Note]) -> list[Sentence]:
    """A line for each note; files of which the same is noted share one, with the first of them."""
    same: dict[str, list[Note]] = {}
    for note in notes:
        same.setdefault(note.text, []).append(note)
    lines = []
    for first, *others in same.values():
        files = first.file if not others else f"{first.file} + {len(others):,}"
        lines.append(Sentence("{}: {}", (files, first.sentence)))
    return lines


def remarks_on(session: Session) -> list[FileRemark]:
    """What was skipped, repaired or assumed in the open files, one line each: what is lost before all else."""
    document = session.document
    remarks = [
        FileRemark(Sentence("{}: {}", (session.tracks.track(key).label, why)))
        for key, why in session.tracks.unreadable.items()
    ]
    if document.profile is not None:
        for severity in (NoteSeverity.WARNING, NoteSeverity.INFO):
            told = [note for note in document.profile.notes if note.severity is severity]
            remarks += [FileRemark(text, severity is NoteSeverity.WARNING) for text in _gathered(told)]
    if document.plan is not None:
        remarks += [
            FileRemark(Sentence("not valid: {}", (note_in_words(wrong),))) for wrong in document.plan.violations
        ]
        remarks += [FileRemark(note_in_words(text), lost=False) for text in document.plan.notes]
    return sorted(remarks, key=lambda remark: not remark.lost)
