"""Other ranks, steps and clocks of what is open, in place of the present ones: what is known and looked at stays."""

from __future__ import annotations

from dataclasses import replace

from memplan.gui.i18n import tr
from memplan.gui.model.document import on_own_clock
from memplan.gui.model.session.open_documents import OpenDocuments
from memplan.gui.model.session.session import FindingRef, Session
from memplan.gui.window.document_opener import DocumentOpener
from memplan.gui.window.side_by_side_controller import SideBySideController
from memplan.gui.work.jobs import Jobs


class RankSwitcher:
    """Opens what a page names by number."""

    def __init__(
        self, documents: OpenDocuments, opener: DocumentOpener, side_by_side: SideBySideController, jobs: Jobs
    ) -> None:
        self._documents, self._opener, self._side_by_side, self._jobs = documents, opener, side_by_side, jobs

    def open(self, rank: int) -> None:
        """Show another rank of the open profile in place of the present one; what is selected and known stays."""
        before = self._documents.current.session

        def prepare(session: Session) -> None:
            session.diagnosis, session.page = before.diagnosis, "overview"
            if isinstance(before.selected, FindingRef):
                session.page = "timeline"
                session.select(before.selected)
                session.reveal_selected()

        request = replace(self._documents.current.request, rank=rank, compared_step=None)
        self._opener.open_request(request, prepare=prepare)

    def beside(self, first: int, second: int) -> None:
        """Show two ranks of the open profile side by side."""
        request, shown = self._documents.current.request, self._documents.current.session.document.rank
        if shown is None or shown.rank != first:
            self.open(first)
        self._opener.add_request(replace(request, rank=second), self._side_by_side.begin)

    def turn_clock(self) -> None:
        """Put the plan on its own clock, or back on that of the run it is compared with."""
        now = self._documents.current
        before = now.session
        document = on_own_clock(before.document, not before.document.own_clock)
        if document is before.document:
            return

        def show(session: Session) -> None:
            session.diagnosis, session.page = before.diagnosis, before.page
            session.markers, session.marker_names = list(before.markers), dict(before.marker_names)
            session.notes = before.notes
            session.viewport.show(before.viewport.start, before.viewport.end)
            self._opener.keep_arrangement()
            self._documents.show(replace(now.request, own_clock=document.own_clock), session, new_tab=False)

        self._jobs.latest(
            self, tr("views"), lambda _: Session(document, before.tier, before.loops), show, question="clock"
        )

    @property
    def own_clock(self) -> bool:
        """Whether the plan is on its own clock."""
        return self._documents.current.session.document.own_clock

    @property
    def clocks(self) -> bool:
        """Whether there are two clocks to choose between."""
        return self._documents.current.session.document.comparison is not None

    def compare_with(self, rank: int, step: int | None) -> None:
        """Compare the plan with `step` of `rank` of the open profile, or with the step of median length."""
        before = self._documents.current.session
        same = before.document.rank is not None and before.document.rank.rank == rank

        def prepare(session: Session) -> None:
            session.diagnosis, session.page = before.diagnosis, before.page
            if same:
                moved = before.origin_ns - session.origin_ns
                session.viewport.show(before.viewport.start + moved, before.viewport.end + moved)

        request = replace(self._documents.current.request, rank=rank, compared_step=step)
        self._opener.open_request(request, prepare=prepare)
