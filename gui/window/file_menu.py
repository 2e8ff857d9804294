"""Commands of the File menu: opening and closing documents, saving views, exporting plans."""

from __future__ import annotations

from collections.abc import Callable

from memplan.gui.commands import Command
from memplan.gui.model.session.open_documents import OpenDocuments
from memplan.gui.window.document_opener import DocumentOpener
from memplan.gui.window.export_dialogs import ExportDialogs
from memplan.gui.window.sharing import Sharing
from memplan.gui.window.view_docks import ViewDocks


def file_commands(
    documents: OpenDocuments,
    opener: DocumentOpener,
    exports: ExportDialogs,
    docks: ViewDocks,
    sharing: Sharing,
    *,
    cancel: Callable[[], object],
    close_window: Callable[[], object],
) -> list[Command]:
    """The File menu."""

    def has_plan() -> bool:
        return documents.current.session.document.plan is not None

    def has_document() -> bool:
        return not documents.current.session.document.empty

    def several_ranks() -> bool:
        profile = documents.current.session.document.profile
        return profile is not None and len(profile.ranks) > 1

    def other_rank() -> None:
        opener.open_rank(new_tab=True)

    def export_plan() -> None:
        exports.export_plan(documents.current.session.document.plan)

    def turn(places: int) -> None:
        documents.select((documents.index + places) % len(documents.opened))

    return [
        Command("open-file", "File", "Open plan or graph …", opener.open_file, ("Ctrl+O",)),
        Command("open-folder", "File", "Open profile directory …", opener.open_folder, ("Ctrl+Shift+O",)),
        Command("plan-model", "File", "Plan a model …", lambda: opener.plan_model(), ("Ctrl+Shift+M",)),
        Command("open-recent", "File", "Open recent …", opener.open_recent, ("Ctrl+Shift+R",)),
        Command("open-sample", "File", "Open the sample", opener.open_sample),
        Command("rank", "File", "Choose a rank …", opener.open_rank, ("Ctrl+Shift+K",), enabled=several_ranks),
        Command("rank-new-tab", "File", "Open another rank …", other_rank, enabled=several_ranks),
        Command("cancel", "File", "Cancel reading", cancel, ("Ctrl+.",)),
        Command("export-plan", "File", "Export the plan …", export_plan, ("Ctrl+E",), enabled=has_plan, separated=True),
        Command(
            "save-view",
            "File",
            "Save the view as picture or table …",
            lambda: exports.save_view(docks.active()),
            ("Ctrl+S",),
        ),
        Command("copy-view", "File", "Copy the view", lambda: exports.copy_view(docks.active()), ("Ctrl+C",)),
        Command("save-window", "File", "Save the window as a picture …", lambda: exports.save_view("")),
        Command(
            "copy-window", "File", "Copy the window as a picture", lambda: exports.copy_view(""), ("Ctrl+Shift+C",)
        ),
        Command("save-place", "File", "Save this place …", sharing.save_view, ("Ctrl+Shift+S",), enabled=has_document),
        Command("report", "File", "Report …", sharing.save_report, ("Ctrl+P",), enabled=has_document),
        Command("close-document", "File", "Close the document", opener.close, ("Ctrl+W",), separated=True),
        Command("next-document", "File", "Next document", lambda: turn(1), ("Ctrl+Tab",)),
        Command("previous-document", "File", "Previous document", lambda: turn(-1), ("Ctrl+Shift+Tab",)),
        Command("close", "File", "Close window", close_window, ("Ctrl+Q",), separated=True),
    ]
