"""What a window has read for it: files and tracks, by jobs that hand over what they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from memplan.core.errors import UnboundShapeError
from memplan.core.progress import Progress
from memplan.gui.i18n import tr
from memplan.gui.model.session.open_request import Request, open_session
from memplan.gui.model.session.session import Session
from memplan.gui.model.timeline.drawing_loops import DrawingLoops
from memplan.gui.model.timeline.timeline_tracks import TimelineTrack, TrackContent
from memplan.gui.work.jobs import Job, Jobs
from memplan.schema import Tier

if TYPE_CHECKING:
    from memplan.findings import Diagnosis

_NO_TRACKS_MS = 1000


class DocumentLoader(QObject):
    """
    Reads files and tracks with `jobs`.

    `tracks_read` has the session of which there are more tracks to show, `unbound` what could not be opened before a
    shape is known: request, error, and what to do once it could. The `loops` that draw are loaded after the first
    tracks were shown, or soon after a document of which none are.
    """

    unbound = Signal(object, object, object)
    tracks_read = Signal(object)

    def __init__(self, jobs: Jobs, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._jobs = jobs
        self._opening: list[Job] = []
        self._asked: set[tuple[Session, str, bool]] = set()
        self.loops = DrawingLoops(loaded=not jobs.background)
        self._loading = False

    def open(self, request: Request, done: Callable[[Request, Session], None]) -> None:
        """
        Read what `request` names and give it with its session to `done`; `cancel` stops it.

        A graph that leaves shapes open is handed to whoever listens to `unbound`, who may ask for them and try again.
        """

        def work(report: Progress) -> Session | UnboundShapeError:
            try:
                return open_session(request, report, self.loops)
            except UnboundShapeError as error:
                return error

        def deliver(found: Session | UnboundShapeError) -> None:
            if isinstance(found, UnboundShapeError):
                self.unbound.emit(request, found, done)
            else:
                done(request, found)
                QTimer.singleShot(_NO_TRACKS_MS, self, self.load_loops)

        names = " + ".join(path.name for path in (request.plan, request.profile) if path is not None)
        job = self._jobs.start(names, work, deliver)
        if job is not None:
            self._opening.append(job)
            job.ended.connect(lambda: self._opening.remove(job) if job in self._opening else None)

    @property
    def opening(self) -> bool:
        """Whether files are being read, which `cancel` can stop."""
        return any(job in self._opening for job in self._jobs.running)

    def cancel(self) -> None:
        """Stop reading the files that were asked for."""
        for job in self._opening:
            job.cancel()
        self._opening.clear()

    def tracks(self, session: Session, tracks: Sequence[TimelineTrack]) -> None:
        """Read `tracks` of `session`, each once however often it is asked for."""
        fresh = [
            track
            for track in tracks
            if (session, track.key, self.loops.loaded) not in self._asked
            and (not session.tracks.loaded(track) or session.tracks.provisional(track))
        ]
        if not fresh:
            return
        self._asked.update((session, track.key, self.loops.loaded) for track in fresh)

        def work(progress: Progress) -> list[tuple[TimelineTrack, TrackContent]]:
            found = []
            for number, track in enumerate(fresh):
                progress(number, len(fresh), track.label)
                found.append((track, session.tracks.read(track, progress)))
            return found

        def keep(found: list[tuple[TimelineTrack, TrackContent]]) -> None:
            for track, content in found:
                session.tracks.keep(track, content)
            self.tracks_read.emit(session)
            self.load_loops()

        def start() -> None:
            self._jobs.start(tr("reading tracks"), work, keep)

        # Views ask while they paint. To show a job lays the status bar out anew, which paints at once, and a painter
        # doesn't outlive another one on the same window: Qt crashes.
        QTimer.singleShot(0, self, start) if self._jobs.background else start()

    def load_loops(self) -> None:
        """Load the loops that draw, and compile them where they never were."""
        if self.loops.loaded or self._loading:
            return
        self._loading = True
        self._jobs.start(tr("views"), self.loops.load, lambda _: self.loops.keep())

    def diagnose(self, session: Session) -> None:
        """Find out what costs time or memory in `session`, once however often it is asked for."""
        if session.document.profile is None or session.diagnosis is not None or session.not_diagnosed is not None:
            return
        if self._jobs.waiting(session, "diagnosis"):
            return

        def keep(found: Diagnosis | None) -> None:
            if found is not None:
                session.keep_diagnosis(found)

        title = tr("looking for what costs time and memory")
        self._jobs.latest(session, title, session.diagnose, keep, question="diagnosis", failed=session.keep_diagnosis)

    def blocks(self, session: Session) -> None:
        """Read the blocks of the run's allocator in `session`, once however often they are asked for."""
        if session.document.rank is None or session.blocks_read or self._jobs.waiting(session, "blocks"):
            return

        def failed(_: str) -> None:
            session.keep_blocks(None)

        self._jobs.latest(
            session, tr("reading blocks"), session.find_blocks, session.keep_blocks, question="blocks", failed=failed
        )

    def every_track(self, session: Session) -> None:
        """Read the tracks of `session` that were never on the screen, so that a search misses none of them."""
        self.tracks(session, session.tracks.all)

    def show_tier(self, session: Session, tier: Tier) -> None:
        """Show the memory of `tier`, which takes time to work out, in `session`."""
        self._jobs.latest(
            self,
            tier.value,
            lambda _: session.tier_memory(tier),
            lambda memory: session.show_tier(tier, memory),
            question="tier",
        )

    def forget_tracks(self) -> None:
        """Read tracks again when they are asked for again: those of a cancelled job, or of another session."""
        self._asked.clear()
