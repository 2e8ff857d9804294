"""Sharing what a window shows: a file that opens at the same place, and a report of the findings with its pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from PySide6.QtWidgets import QFileDialog, QWidget

from memplan.core.errors import MemplanError
from memplan.core.files import replacing_file
from memplan.core.progress import Progress
from memplan.core.sentence import Sentence, Text
from memplan.gui.i18n import say_word, spoken, tr
from memplan.gui.model.session.open_documents import OpenDocuments
from memplan.gui.model.session.plan_notes import note_in_words
from memplan.gui.model.session.session import Session
from memplan.gui.model.session.view_file import VIEW_SUFFIX, write_view_file
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack, TrackContent
from memplan.gui.views.canvas import TimeCanvas
from memplan.gui.views.timeline.timeline_view import TimelineView
from memplan.gui.views.timeline.track_canvas import TrackCanvas
from memplan.gui.views.view import ViewServices, ViewSpec
from memplan.gui.views.view_specs import VIEW_SPECS
from memplan.gui.window.view_export import inline_svg, whole_timeline
from memplan.gui.work.jobs import Jobs

if TYPE_CHECKING:
    from memplan.reports.report import Report

_PICTURES = {"timeline": 420, "map": 420, "curve": 240, "process": 240}
"""Views whose pictures a report has, with their heights in pixels."""
_PICTURE_PX = 1180


class Sharing:
    """What writes views and reports; dialogs stand over `parent`, `say` shows a line."""

    def __init__(
        self,
        parent: QWidget,
        documents: OpenDocuments,
        services: Callable[[], ViewServices],
        jobs: Jobs,
        say: Callable[[str], object],
    ) -> None:
        self._parent, self._documents, self._services = parent, documents, services
        self._jobs, self._say = jobs, say

    def save_view(self) -> None:
        """Ask where to and write what is shown as a file that opens at the same place."""
        kinds = f"{tr('Views')} (*{VIEW_SUFFIX})"
        name, _ = QFileDialog.getSaveFileName(self._parent, tr("Save this place"), f"view{VIEW_SUFFIX}", kinds)
        if not name:
            return
        path = Path(name if name.endswith(VIEW_SUFFIX) else name + VIEW_SUFFIX)
        now = self._documents.current
        try:
            write_view_file(path, now.request, now.session)
        except MemplanError as error:
            self._jobs.failed.emit(error.said(tr))
            return
        self._say(tr("written to {}").format(path))

    def save_report(self) -> None:
        """Ask where to and write the findings of what is open as one page, with pictures of this window."""
        name, _ = QFileDialog.getSaveFileName(self._parent, tr("Report"), "report.html", "HTML (*.html)")
        if name:
            self.write_report(Path(name if name.endswith((".html", ".htm")) else f"{name}.html"))

    def write_report(self, path: Path) -> None:
        """Write the report of what is open to `path`, once the tracks that its pictures show are read."""
        self._read_and_write(path, self._documents.current.session, frozenset())

    def _read_and_write(self, path: Path, session: Session, asked: frozenset[str]) -> None:
        """Read what the pictures show but for the tracks `asked` for before: those read give room to others."""
        unread = [track for track in self._unread(session) if track.key not in asked]
        if not unread:
            self._write_report(path, session)
            return

        def read(progress: Progress) -> list[tuple[TimelineTrack, TrackContent]]:
            return [(track, session.tracks.read(track, progress)) for track in unread]

        def keep(found: list[tuple[TimelineTrack, TrackContent]]) -> None:
            for track, content in found:
                session.tracks.keep(track, content)
            self._read_and_write(path, session, asked.union(track.key for track in unread))

        self._jobs.start(tr("reading tracks"), read, keep)

    def _write_report(self, path: Path, session: Session) -> None:
        """Write the report: pictures are drawn at once, all else is a worker's."""
        pictures, language = self._pictures(session), spoken()

        def work(progress: Progress) -> Path:
            from memplan.reports.renderers.render_html import render_html

            with replacing_file(path) as file:
                file.write(render_html(session_report(session, pictures, progress), say_of_report, language))
            return path

        def done(path: Path) -> None:
            self._say(tr("written to {}").format(path))

        self._jobs.start(f"{tr('Report')} {path.name}", work, done)

    def _pictures(self, session: Session) -> list[tuple[str, str]]:
        """Titles and pictures of the views on the time axis that have something to show of `session`."""
        shown = {"map": session.map is not None or session.blocks is not None,
                 "curve": session.curves.planned is not None or bool(session.curves.measured),
                 "process": session.curves.process is not None}  # fmt: skip
        found = []
        for spec in VIEW_SPECS:
            if spec.name not in _PICTURES or not shown.get(spec.name, True):
                continue
            with self._drawn(session, spec) as view:
                found.append((spec.title, inline_svg(view)))
        return found

    def _unread(self, session: Session) -> list[TimelineTrack]:
        """Tracks of the report's pictures that were never on the screen."""
        found: list[TimelineTrack] = []
        for spec in VIEW_SPECS:
            if spec.name in _PICTURES:
                with self._drawn(session, spec) as view:
                    drawn = whole_timeline(view) if isinstance(view, TimelineView) else view  # as it is saved
                    shown = drawn.visible() if isinstance(drawn, TrackCanvas) else ()
                    found += [placed.track for placed, _ in shown if placed.track is not None]
        return [track for track in found if not session.tracks.loaded(track)]

    @contextmanager
    def _drawn(self, session: Session, spec: ViewSpec) -> Iterator[TimeCanvas]:
        """A view on the time axis in the size of its picture."""
        view = cast(TimeCanvas, spec.make(replace(self._services(), session=session)))  # as all of `_PICTURES` are
        view.setParent(None)
        view.resize(_PICTURE_PX, _PICTURES[spec.name])
        try:
            yield view
        finally:
            view.forget()
            view.deleteLater()


def say_of_report(text: Text) -> str:
    """Words of a report in the window's language; those that are one text with their figures are taken apart."""
    said = say_word(text)
    return say_word(note_in_words(text)) if said == text and " " in text else said


def session_report(session: Session, pictures: list[tuple[str, str]], progress: Progress) -> Report:
    """What is found in `session`, with its notes, named markers and `pictures` first; long, meant for a worker."""
    from memplan.reports.comparison.compare_report import compare_report
    from memplan.reports.diagnosis.diagnosis_report import diagnosis_report
    from memplan.reports.plan_report import plan_report
    from memplan.reports.profile_report import profile_remarks
    from memplan.reports.report import Drawing, Figure, Figures, Remark, Report, section

    document = session.document
    reports: list[Report] = []
    if document.profile is not None:
        found = session.diagnosis or session.diagnose(progress)
        if found is not None:
            reports.append(diagnosis_report(found, document.name, profile_remarks(document.profile)))
    if document.plan is not None and document.comparison is not None:
        reports.append(compare_report(document.comparison, {op.index: op.name for op in document.plan.ops}))
    elif document.plan is not None:
        reports.append(plan_report(document.plan))
    first = reports[0] if reports else Report(document.name)
    own = []
    if session.notes.strip():
        own.append(section("Notes on this document", *session.notes.strip().split("\n\n")))
    if session.markers:
        figures = tuple(Figure(session.marker_name(time), str(session.length_text(time))) for time in session.markers)
        own.append(section("Markers", Figures(figures)))
    if pictures:
        drawings = tuple(Drawing(svg, title=title, said=True) for title, svg in pictures)
        own.append(section("What the window shows", *drawings))
    headlines = [Remark(Sentence("{}: {}", (one.title, one.headline))) for one in reports[1:]]
    return replace(
        first,
        sections=(*own, *(part for one in reports for part in one.sections)),
        notes=(*headlines, *(note for one in reports for note in one.notes)),
        sources=tuple(source for one in reports for source in one.sources),
    )
