"""Opens what a window is asked to show: plans, graphs and profiles, told apart by what they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from memplan.core.errors import InputError
from memplan.gui.model.document.document import make_document
from memplan.gui.model.document.session import Session
from memplan.core.progress import Progress, silent
from memplan.schema import Plan, load_plan
from memplan.traces import open_profile
from memplan.traces.directory import Profile


@dataclass(frozen=True, slots=True)
class Request:
    """What to open together; graphs are planned first, for `chip`, with `shapes` for inputs that leave theirs open."""

    plan: Path | None = None
    profile: Path | None = None
    rank: int | None = None
    chip: str | None = None
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files and folders."""
        return tuple(path for path in (self.plan, self.profile) if path is not None)


def request_for(paths: list[Path], current: Request = Request()) -> Request:
    """`current` with `paths` put where they belong: a folder (or a file of one) is a profile, other files plans."""
    plan, profile, rank = current.plan, current.profile, current.rank
    for path in paths:
        if path.is_dir():
            profile, rank = path, None
        elif is_profile_file(path):
            profile, rank = path.parent, None
        else:
            plan = path
    return Request(plan, profile, rank, current.chip)


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
            return [replace(current, plan=plans[0])]
        if profiles and not plans and current.profile is None:
            return [replace(current, profile=profiles[0], rank=None)]
    if len(plans) == 1 and profiles:
        return [Request(plans[0], profile) for profile in profiles]
    if len(profiles) == 1 and plans:
        return [Request(plan, profiles[0]) for plan in plans]
    return [*(Request(plan) for plan in plans), *(Request(None, profile) for profile in profiles)]


def is_profile_file(path: Path) -> bool:
    """Whether `path` is one of the files inside a profile directory rather than a plan or a graph."""
    if path.suffix in (".csv", ".db"):
        return True
    return path.suffix == ".json" and path.name != "plan.json" and not _is_plan(path)


def _is_plan(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError:
        return True
    return b"memplan-plan" in head


def is_graph(path: Path) -> bool:
    """Whether `path` is a graph to plan rather than a plan."""
    return path.suffix != ".json"


def open_session(request: Request, progress: Progress = silent) -> Session:
    """
    Everything that `request` names, ready to show. Long; meant for a worker.

    Raises `InputError` for files that can't be used and `CancelledError` when `progress` says so.
    """
    plan = _open_plan(request, request.plan, progress) if request.plan is not None else None
    profile: Profile | None = None
    if request.profile is not None:
        progress(0, 1, request.profile.name)
        profile = open_profile(request.profile)
        if request.rank is not None and request.rank not in profile.ranks:
            raise InputError(f"rank {request.rank} is not in this profile", path=request.profile)
    document = make_document(plan, profile, plan_path=request.plan, rank=request.rank, progress=progress)
    progress(0, 1, "views")
    from memplan.gui.model.raster import warm  # its compiler is slow to import: on this thread, not in the first frame

    warm()
    return Session(document)


def _open_plan(request: Request, path: Path, progress: Progress) -> Plan:
    progress(0, 1, path.name)
    if not is_graph(path):
        return load_plan(path)
    if request.chip is None:
        raise InputError("a graph needs a chip to be planned for", path=path, remedy="choose one")
    import memplan

    return memplan.plan(path, chip=request.chip, shapes=dict(request.shapes), progress=progress)


def notes_of(session: Session) -> list[str]:
    """What was skipped, repaired or assumed in the open files, one line each."""
    document = session.document
    lines = [f"{session.tracks.track(key).label}: {why}" for key, why in session.tracks.unreadable.items()]
    if document.profile is not None:
        lines += [f"{note.file}: {note.text}" for note in document.profile.notes]
    if document.plan is not None:
        lines += list(document.plan.notes)
    return lines
