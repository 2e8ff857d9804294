"""A view as a file: what is open, the page, the stretch, what is picked, named markers and notes, to open again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from memplan.core.errors import InputError, reason
from memplan.core.files import replacing_file
from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.request_values import plain_request, request_of
from memplan.gui.model.session.session import (
    BlockRef,
    FindingRef,
    ItemRef,
    OpRef,
    Session,
    SliceRef,
    SpansRef,
    TensorRef,
)
from memplan.schema import Tier

VIEW_SUFFIX = ".memplan-view"
_VERSION = 1
_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SavedView:
    """What was open, and the values of everything else; `show` puts a session of it back as it was."""

    request: Request
    values: Mapping[str, Any]

    def show(self, session: Session) -> None:
        """Look at `session` as it was looked at; what it no longer has is passed over."""
        values, viewport = self.values, session.viewport
        page = values.get("page")
        session.page = page if isinstance(page, str) else session.page
        tier = values.get("tier")
        if tier in {one.value for one in session.tiers} and tier != session.tier.value:
            session.show_tier(Tier(tier))
        if isinstance(arrangement := values.get("tracks"), dict):
            session.tracks.arrange({name: _texts(keys) for name, keys in arrangement.items() if isinstance(keys, list)})
        if isinstance(text := values.get("filter"), str):
            session.tracks.show_only(text)
        if (shown := _span(values.get("shown_ns"), session)) is not None:
            viewport.show(*shown)
        viewport.selected_range = _span(values.get("selected_range_ns"), session)
        markers = values.get("markers")
        for marker in markers if isinstance(markers, list) else ():
            if isinstance(marker, dict) and isinstance(marker.get("time_ns"), int | float):
                time = float(marker["time_ns"] - session.origin_ns)
                session.markers = sorted({*session.markers, time})
                session.marker_names[time] = str(marker.get("name", ""))
        session.markers_changed.emit()
        notes = values.get("notes")
        session.notes = notes if isinstance(notes, str) else ""
        _pick(session, values.get("selected"))


def write_view_file(path: Path, request: Request, session: Session) -> Path:
    """
    Write how `session`, which `request` opened, is looked at. Files below the folder of `path` are named from there.

    Raises `InputError` where it can't be written.
    """
    origin, viewport = session.origin_ns, session.viewport
    chosen = viewport.selected_range
    values = {
        "memplan_view": _VERSION,
        "open": {**plain_request(request), **{
            name: _named(file, path.absolute().parent)
            for name, file in (("plan", request.plan), ("profile", request.profile)) if file is not None
        }},
        "page": session.page,
        "tier": session.tier.value,
        "shown_ns": [origin + round(viewport.start), origin + round(viewport.end)],
        "selected_range_ns": None if chosen is None else [origin + round(time) for time in chosen],
        "selected": _picked(session.selected),
        "markers": [
            {"time_ns": origin + round(time), "name": session.marker_names.get(time, "")} for time in session.markers
        ],
        "notes": session.notes,
        "tracks": session.tracks.arrangement(),
        "filter": session.tracks.filter,
    }  # fmt: skip
    with replacing_file(path) as file:
        file.write(json.dumps(values, ensure_ascii=False, indent=1) + "\n")
    return path


def read_view_file(path: Path) -> SavedView:
    """The view in `path`; raises `InputError` where it is none, or of a later version."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError("this is far larger than a saved view", path=path, remedy="open another file")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError("can't be read: {}", reason(error), path=path, remedy="check where it is") from error
    except (ValueError, RecursionError) as error:
        raise InputError("this is no saved view", path=path, remedy="save one again") from error
    if not isinstance(values, dict) or not isinstance(values.get("memplan_view"), int):
        raise InputError("this is no saved view", path=path, remedy="save one again")
    if values["memplan_view"] > _VERSION:
        raise InputError("this view is of a later version of memplan", path=path, remedy="install that version")
    request = request_of(values.get("open"))
    if request is None:
        raise InputError("this view names nothing to open", path=path, remedy="save one again")
    folder = path.absolute().parent
    plan, profile = (None if file is None else folder / file for file in (request.plan, request.profile))
    return SavedView(replace(request, plan=plan, profile=profile), values)


def _named(file: Path, folder: Path) -> str:
    file = file.absolute()
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def _texts(keys: list[object]) -> list[str]:
    return [key for key in keys if isinstance(key, str)]


def _span(found: object, session: Session) -> tuple[float, float] | None:
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(time, int | float) for time in found):
        return None
    return float(found[0] - session.origin_ns), float(found[1] - session.origin_ns)


def _picked(item: ItemRef | None) -> list[object] | None:
    if isinstance(item, SliceRef):
        return ["slice", item.track, item.index]
    if isinstance(item, FindingRef):
        return ["finding", item.number, item.place]
    if isinstance(item, SpansRef):
        return ["spans", str(item.title), [list(span) for span in item.spans]]
    if isinstance(item, TensorRef):
        return ["tensor", item.rectangle]
    if isinstance(item, BlockRef):
        return ["block", item.rectangle]
    return ["op", item.op] if isinstance(item, OpRef) else None


def _pick(session: Session, found: object) -> None:
    """Select what `_picked` told, as far as the document has it; a finding and a block once they are known."""
    if not isinstance(found, list) or not found:
        return
    what, *rest = found
    number = rest[0] if rest and isinstance(rest[0], int) else -1
    if what == "slice" and len(rest) == 2 and isinstance(rest[1], int):
        track = next((track for track in session.tracks.all if track.key == rest[0]), None)
        if track is not None and 0 <= rest[1] < track.count:
            session.select(SliceRef(track.key, rest[1]))
    elif what == "tensor" and session.map is not None and 0 <= number < len(session.map):
        session.select(TensorRef(number))
    elif what == "op" and session.document.plan is not None and 0 <= number < len(session.document.plan.ops):
        session.select(OpRef(number))
    elif what == "spans" and len(rest) == 2 and isinstance(rest[1], list):
        spans = [span for span in rest[1] if isinstance(span, list) and len(span) == 2]
        session.select(SpansRef(str(rest[0]), tuple((int(first), int(last)) for first, last in spans)))
    elif what == "finding" and number >= 0:
        place = rest[1] if len(rest) > 1 and isinstance(rest[1], int) else 0
        session.diagnosed.connect(lambda: _once_known(session, FindingRef(number, place)))
    elif what == "block" and number >= 0:
        session.blocks_changed.connect(lambda: _once_known(session, BlockRef(number)))


def _once_known(session: Session, item: FindingRef | BlockRef) -> None:
    """Select `item` when what it is of has been read, unless something else is selected by then."""
    if session.selected is not None:
        return
    if isinstance(item, BlockRef):
        known = len(session.blocks) if session.blocks is not None else 0
        if item.rectangle < known:
            session.select(item)
    elif session.diagnosis is not None and item.number < len(session.diagnosis.findings):
        session.select(item)
