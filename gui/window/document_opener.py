"""Opens documents for a window: asks for what is missing, reads on workers, and shows what was read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QFileDialog, QWidget

from memplan.core.errors import InputError, UnboundShapeError
from memplan.gui.i18n import tr
from memplan.gui.model.session.open_documents import OpenDocument, OpenDocuments
from memplan.gui.model.session.open_request import (
    PLAN_PATTERNS,
    Request,
    requests_for,
    wants_chip,
    wants_step,
)
from memplan.gui.model.session.session import Session
from memplan.gui.model.session.view_file import VIEW_SUFFIX, read_view_file
from memplan.gui.settings import Settings
from memplan.gui.window.dialogs import ask_chip, ask_item, ask_shape
from memplan.gui.work.loader import DocumentLoader

if TYPE_CHECKING:
    from memplan.gui.views.planning.plan_model_dialog import PlanModelDialog
    from memplan.requests.plan_request import PlanRequest

_SAMPLES = Path(str(resources.files("memplan.samples")))


class DocumentOpener:
    """
    What opens and closes `documents`. Dialogs stand over `parent`; `say` shows a line, `problem` what went wrong.

    `problems_ever` counts the problems so far, and `opened` is given what it was when something was asked for that is
    open by now: problems from before are over.

    What was read is kept in the settings as recent, and so is how the user arranged the tracks that are left.
    """

    def __init__(
        self,
        parent: QWidget,
        documents: OpenDocuments,
        loader: DocumentLoader,
        settings: Settings,
        *,
        say: Callable[[str], object],
        problem: Callable[[str], object],
        problems_ever: Callable[[], int],
        opened: Callable[[int], object],
    ) -> None:
        self._parent = parent
        self._documents = documents
        self._loader = loader
        self._settings = settings
        self._say, self._problem = say, problem
        self._problems_ever, self._opened = problems_ever, opened
        loader.unbound.connect(self._ask_shape)

    @property
    def request(self) -> Request:
        """What the document that is shown was opened from."""
        return self._documents.current.request

    # -- opening -------------------------------------------------------------------------------------------------

    def open(self, paths: Sequence[Path], chip: str | None = None) -> None:
        """Open files and folders: together with what is open of the other kind, else as further documents."""
        views = [path for path in paths if path.suffix == VIEW_SUFFIX]
        for path in views:
            self.open_view(path)
        paths = [path for path in paths if path not in views]
        for request in requests_for(list(paths), self.request):
            if not self.open_planned(replace(request, chip=chip or request.chip)):
                return

    def open_planned(self, request: Request) -> bool:
        """
        Open `request`, of a graph after asking for the chip to plan it for; false if the user gave up.

        A model is asked about in a dialog of its own, which opens it.
        """
        if wants_step(request):
            self.plan_model(request.plan)
            return True
        with_chip = self._with_chip(request)
        if with_chip is not None:
            self.open_request(with_chip)
        return with_chip is not None

    def open_request(
        self,
        request: Request,
        time_range: tuple[float, float] | None = None,
        *,
        new_tab: bool = False,
        prepare: Callable[[Session], object] = lambda _: None,
    ) -> None:
        """
        Show what `request` names, at `time_range` of it; while it is read, what was open stays.

        It takes the place of a document that it holds all of, unless it is to have a `new_tab`. `prepare` is given the
        session before it is shown.
        """
        problems = self._problems_ever()

        def done(request: Request, session: Session) -> None:
            self._opened(problems)
            if time_range is not None:
                session.viewport.show(*time_range)
            prepare(session)
            self._settings.opened(request)
            self.keep_arrangement()
            now = self.request  # of several that were asked for together, the first to be read may be shown by now
            extends = now.plan in (None, request.plan) and now.profile in (None, request.profile) and not new_tab
            self._documents.show(request, session, new_tab=not extends)

        self._loader.open(request, done)

    def add(self, paths: Sequence[Path], done: Callable[[OpenDocument], object]) -> None:
        """Open files and folders as further documents that aren't shown; each is given to `done` once it is read."""
        for request in requests_for(list(paths)):
            with_chip = self._with_chip(request, self.request.chip)
            if with_chip is None:
                return
            self.add_request(with_chip, done)

    def add_request(self, request: Request, done: Callable[[OpenDocument], object]) -> None:
        """Open what `request` names as a further document that isn't shown, and give it to `done` once it is read."""

        def keep(request: Request, session: Session) -> None:
            self._settings.opened(request)
            self.keep_arrangement()
            done(self._documents.add(request, session))

        self._loader.open(request, keep)

    def reopen(self) -> None:
        """Open what was open when the app ended; what has gone since is a problem."""
        for request, time_range in self._settings.open_at_start:
            self.open_request(request, time_range)

    def close(self, index: int | None = None) -> None:
        """Close document `index`, the shown one without; the last one gives way to an empty one."""
        self.keep_arrangement()
        self._documents.close(self._documents.index if index is None else index)

    def keep_arrangement(self) -> None:
        """Keep how the tracks are arranged, if the user arranged any."""
        tracks = self._documents.current.session.tracks
        if tracks.arranged:
            self._settings.arrangement = tracks.arrangement(self._settings.arrangement)

    # -- asking --------------------------------------------------------------------------------------------------

    def open_view(self, path: Path) -> None:
        """Open what a saved view names, at the same place."""
        try:
            saved = read_view_file(path)
        except InputError as error:
            self._problem(error.said(tr))
            return
        self.open_request(saved.request, new_tab=True, prepare=saved.show)

    def open_sample(self) -> None:
        """Open the bundled plan and the profile that was simulated from it."""
        self.open_request(Request(_SAMPLES / "llama_train.plan.json", _SAMPLES / "llama_train_profile"))

    def plan_model(self, config: Path | None = None) -> PlanModelDialog:
        """Ask which step of a model to plan, of the one at `config` where it is given, and open the plan."""
        from memplan.gui.views.planning.plan_model_dialog import (
            PlanModelDialog,
        )  # knows every model, which takes a while

        now = self._documents.current.session.document
        profile = now.profile
        dialog = PlanModelDialog(
            self._settings.models,
            self._open_step,
            profile=None if profile is None else profile.path,
            rank=None if now.rank is None else now.rank.rank,
            parent=self._parent,
        )
        if config is not None:
            dialog.form.show_source(config)
        dialog.open()
        return dialog

    def _open_step(self, step: PlanRequest) -> None:
        self._settings.model_opened(step.source)
        now = self.request
        beside = (
            Request(step.source, now.profile, now.rank, step=step) if step.like else Request(step.source, step=step)
        )
        self.open_request(beside)

    def planning_sources(self) -> list[Path]:
        """Models and graphs to plan: the open one, those that were opened before, and the sample's."""
        asked = [self.request, *self._settings.recent]
        graphs = [request.plan for request in asked if request.plan is not None and (request.chip or request.step)]
        return [path for path in dict.fromkeys([*graphs, _SAMPLES / "llama_train.mindir", *self._settings.models])
                if path.exists()]  # fmt: skip

    def open_made(self, step: PlanRequest, session: Session, page: str, beside: bool) -> None:
        """Open a plan that was made of `step` at `page`: as it is in `session`, or compared with the open run."""
        self._settings.model_opened(step.source)
        now = self.request
        if beside and now.profile is not None:
            request = Request(step.source, now.profile, now.rank, step=step)
            self.open_request(request, prepare=lambda opened: setattr(opened, "page", page))
            return
        session.page = page
        self.keep_arrangement()
        self._documents.show(Request(step.source, step=step), session, new_tab=True)

    def open_file(self) -> None:
        """Ask for plans, graphs to plan first, or archives of profiles, and open them."""
        names, _ = QFileDialog.getOpenFileNames(self._parent, tr("Open plan or graph"), "", _plan_kinds())
        if names:
            self.open([Path(name) for name in names])

    def open_folder(self) -> None:
        """Ask for a profile directory and open it."""
        path = self.ask_folder()
        if path is not None:
            self.open([path])

    def open_recent(self) -> None:
        """Ask for one of the documents that were open before."""
        recent = self._settings.recent
        names = [" + ".join(str(path) for path in item.paths) for item in recent]
        if not names:
            self._say(tr("Nothing was opened yet."))
            return
        chosen = ask_item(self._parent, tr("Open recent"), tr("What to open again"), names, names[0])
        if chosen is not None:
            self.open_request(recent[names.index(chosen)])

    def open_rank(self, *, new_tab: bool = False) -> None:
        """Ask for a rank of the open profile and show it: in place of the present one or in a `new_tab`."""
        document = self._documents.current.session.document
        if document.profile is None or document.rank is None or len(document.profile.ranks) < 2:
            self._say(tr("The open profile holds one rank only."))
            return
        request = self.ask_rank(tuple(document.profile.ranks), document.rank.rank)
        if request is not None:
            self.open_request(request, new_tab=new_tab)

    def ask_rank(self, ranks: Sequence[int], now: int) -> Request | None:
        """The open profile at one of `ranks`."""
        names = [str(rank) for rank in ranks]
        chosen = ask_item(self._parent, tr("Choose a rank"), tr("Rank"), names, str(now))
        return replace(self.request, rank=int(chosen)) if chosen is not None else None

    def ask_file(self) -> Path | None:
        """One plan or graph."""
        name, _ = QFileDialog.getOpenFileName(self._parent, tr("Open plan or graph"), "", _plan_kinds())
        return Path(name) if name else None

    def ask_folder(self) -> Path | None:
        """One profile directory."""
        name = QFileDialog.getExistingDirectory(self._parent, tr("Open profile directory"))
        return Path(name) if name else None

    def _with_chip(self, request: Request, known: str | None = None) -> Request | None:
        """`request` with the chip to plan its graph for: the one that is known, else one to ask for."""
        if not wants_chip(request):
            return request
        chip = known or ask_chip(self._parent)
        return replace(request, chip=chip) if chip is not None else None

    def _ask_shape(self, request: Request, error: UnboundShapeError, done: Callable[[Request, Session], None]) -> None:
        """Ask for the shape that an input leaves open, and read on with it."""
        try:
            shape = ask_shape(self._parent, error)
        except InputError as wrong:
            self._problem(wrong.said(tr))
            return
        if shape is None:
            self._problem(error.said(tr))
            return
        kept = tuple(item for item in request.shapes if item[0] != shape[0])
        self._loader.open(replace(request, shapes=(*kept, shape)), done)


def _plan_kinds() -> str:
    archives = f"{tr('Archives of profiles')} (*.zip *.tar *.tgz *.tar.gz *.tar.xz *.tar.bz2)"
    return f"{tr('Plans and graphs')} ({PLAN_PATTERNS} *{VIEW_SUFFIX});;{archives};;{tr('All files')} (*)"
