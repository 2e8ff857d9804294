"""The views that are made when they are first asked for: their modules, and what those read, take time to load."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from memplan.core.progress import Progress
from memplan.gui.i18n import tr
from memplan.hardware import chips

if TYPE_CHECKING:
    from memplan.gui.views.kernel.kernel_view import KernelView
    from memplan.gui.views.kernel.roofline_view import RooflineView
    from memplan.gui.views.kv.kv_budget_view import KvBudgetView
    from memplan.gui.window.main_window import MainWindow

_AREA = Qt.DockWidgetArea.BottomDockWidgetArea
_LEAST_SHARE = 0.4
"""Of the window's height: these views get so much where they would have less."""


class LazyDocks:
    """Roofline, kernel and KV budget of a window, `None` before they are made."""

    def __init__(self, window: MainWindow) -> None:
        self._window = window
        self.roofline: RooflineView | None = None
        self.kernel: KernelView | None = None
        self.kv: KvBudgetView | None = None
        self._makers: dict[str, tuple[str, str, Callable[[], QWidget]]] = {
            "roofline": ("memplan.gui.views.kernel.roofline_view", "Roofline", self._make_roofline),
            "kernel": ("memplan.gui.views.kernel.kernel_view", "Kernel", self._make_kernel),
            "kv": ("memplan.gui.views.kv.kv_budget_view", "KV budget", self._make_kv),
        }

    @property
    def made(self) -> list[str]:
        """Names of those that are there."""
        return [name for name in self._makers if name in self._window.docks]

    @property
    def shown(self) -> list[str]:
        """Names of those that are open, be it behind another tab."""
        return [name for name in self.made if self._window.docks[name].isVisible()]

    def show(self, name: str, then: Callable[[], object] | None = None) -> None:
        """
        Bring a view to the front; the first time its module is imported on a worker.

        `then` is done once the view is there, in place of bringing it to the front. An unknown name does nothing.
        """
        if name not in self._makers:
            return
        window = self._window
        module, title, make = self._makers[name]

        def show() -> None:
            if window.lazy_docks is not self:  # the window changed its language meanwhile: its views are others
                window.lazy_docks.show(name, then)
                return
            if name not in window.docks:
                window.add_view(name, title, make(), _AREA, under=window.docks["transfers"])
            if then is not None:
                then()
            else:
                self._bring(name)

        def load(_: Progress) -> None:
            import_module(module)
            chips()  # read from files once, for all of these views

        if module in sys.modules:
            show()
        else:
            window.jobs.start(tr("opening the view"), load, lambda _: show())

    def show_kv(self, config: Path | None = None) -> None:
        """Show the KV budget, of the model in `config` when given."""

        def show() -> None:
            if self.kv is not None and config is not None:
                self.kv.show_model(config)
            self._bring("kv")

        self.show("kv", show)

    def _bring(self, name: str) -> None:
        window = self._window
        window.show_view(name)
        dock, least = window.docks[name], int(window.height() * _LEAST_SHARE)
        if dock.height() < least and not dock.isFloating():
            window.resizeDocks([window.docks["map"], dock], [least // 3, least], Qt.Orientation.Vertical)

    def _make_roofline(self) -> QWidget:
        from memplan.gui.views.kernel.roofline_view import RooflineView

        self.roofline = RooflineView(self._window.session, self._window.colours, self._window)
        return self.roofline

    def _make_kernel(self) -> QWidget:
        from memplan.gui.views.kernel.kernel_view import KernelView

        window = self._window
        self.kernel = KernelView(window.session, window.colours, window.jobs, window)
        return self.kernel

    def _make_kv(self) -> QWidget:
        from memplan.gui.views.kv.kv_budget_view import KvBudgetView

        self.kv = KvBudgetView(
            self._window.colours, self._window.jobs, self._window, models=self._window.settings.models
        )
        self.kv.model_opened.connect(self._keep_model)
        return self.kv

    def _keep_model(self, config: Path) -> None:
        settings = self._window.settings
        settings.models = [config, *(path for path in settings.models if path != config)]
