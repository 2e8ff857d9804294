"""What the app keeps between two starts: colours, language, recent and open files, arrangement of tracks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QSettings

from memplan.gui.i18n import LANGUAGES, system_language
from memplan.gui.model.palette import Palette, load_palette
from memplan.gui.model.session.open_request import Request
from memplan.gui.model.session.request_values import plain_request, request_of

_RECENT = 10


class Settings:
    """
    Typed access to Qt's settings; without a store nothing is kept and every answer is the default.

    Whatever a stored value looks like, reading it gives something usable: settings survive versions and hand edits.
    """

    def __init__(self, store: QSettings | None = None) -> None:
        self._store = store

    def _get(self, name: str) -> Any:
        return self._store.value(name) if self._store is not None else None

    def _set(self, name: str, value: object) -> None:
        if self._store is not None:
            self._store.setValue(name, value)

    def _json(self, name: str) -> Any:
        try:
            return json.loads(str(self._get(name) or "null"))
        except ValueError:
            return None

    def _strings(self, name: str) -> dict[str, str]:
        found = self._json(name)
        pairs = found.items() if isinstance(found, dict) else ()
        return {key: value for key, value in pairs if isinstance(value, str)}

    # -- looks ---------------------------------------------------------------------------------------------------

    @property
    def palette(self) -> Palette:
        """Theme, set of colours and the user's own colours."""
        theme, colours = str(self._get("theme") or "light"), str(self._get("colours") or "okabe-ito")
        return load_palette(theme, colours, self._strings("own_colours"))

    @palette.setter
    def palette(self, palette: Palette) -> None:
        self._set("theme", palette.theme)
        self._set("colours", palette.name)
        self._set("own_colours", json.dumps(dict(palette.overrides)))

    @property
    def language(self) -> str:
        """Code of the window's language; the system's unless another one was chosen."""
        chosen = str(self._get("language") or "")
        return chosen if chosen in LANGUAGES else system_language()

    @language.setter
    def language(self, code: str) -> None:
        self._set("language", code)

    @property
    def geometry(self) -> QByteArray | None:
        """Where the window was."""
        found = self._get("geometry")
        return found if isinstance(found, QByteArray) else None

    @geometry.setter
    def geometry(self, geometry: QByteArray) -> None:
        self._set("geometry", geometry)

    @property
    def page_layouts(self) -> dict[str, tuple[tuple[str, ...], QByteArray]]:
        """For each page that was seen the views in its docks, and Qt's account of where these are."""
        found = self._json("pages")
        layouts = {}
        for page, kept in found.items() if isinstance(found, dict) else ():
            shown, state = (kept.get("shown"), kept.get("state")) if isinstance(kept, dict) else (None, None)
            if isinstance(shown, list) and isinstance(state, str):
                names = tuple(name for name in shown if isinstance(name, str))
                layouts[page] = (names, QByteArray.fromBase64(state.encode()))
        return layouts

    @page_layouts.setter
    def page_layouts(self, layouts: Mapping[str, tuple[Sequence[str], QByteArray]]) -> None:
        plain = {
            page: {"shown": list(shown), "state": bytes(state.toBase64().data()).decode()}
            for page, (shown, state) in layouts.items()
        }
        self._set("pages", json.dumps(plain))

    # -- files ---------------------------------------------------------------------------------------------------

    def _requests(self, name: str) -> list[Request]:
        found = self._json(name)
        requests = [request_of(item) for item in found] if isinstance(found, list) else []
        return [request for request in requests if request is not None]

    @property
    def recent(self) -> list[Request]:
        """What was opened last, the latest first."""
        return self._requests("recent")

    def opened(self, request: Request) -> None:
        """Put `request` first among the recent ones."""
        rest = [item for item in self.recent if (item.plan, item.profile) != (request.plan, request.profile)]
        self._set("recent", json.dumps([plain_request(item) for item in [request, *rest][:_RECENT]]))

    @property
    def open_at_start(self) -> list[tuple[Request, tuple[float, float] | None]]:
        """What was open when the app ended, with the time range that was shown of each."""
        found = self._json("open")
        kept = []
        for item in found if isinstance(found, list) else ():
            request = request_of(item)
            if request is None:
                continue
            time_range = item.get("stretch")
            fits = (
                isinstance(time_range, list)
                and len(time_range) == 2
                and all(isinstance(t, int | float) for t in time_range)
            )
            kept.append((request, (float(time_range[0]), float(time_range[1])) if fits else None))
        return kept

    @open_at_start.setter
    def open_at_start(self, opened: Sequence[tuple[Request, tuple[float, float] | None]]) -> None:
        plain = [
            {**plain_request(request), "stretch": list(time_range) if time_range else None}
            for request, time_range in opened
        ]
        self._set("open", json.dumps(plain))

    def _texts(self, name: str) -> list[str]:
        found = self._json(name)
        return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []

    @property
    def prepared(self) -> str:
        """The versions for which loops were compiled beforehand; empty at first."""
        return str(self._get("prepared") or "")

    @prepared.setter
    def prepared(self, versions: str) -> None:
        self._set("prepared", versions)

    @property
    def models(self) -> list[Path]:
        """`config.json` files whose KV budget was looked at, the latest first."""
        return [Path(item) for item in self._texts("models")]

    def model_opened(self, config: Path) -> None:
        """Put `config` first among the models that were looked at."""
        rest = [path for path in self.models if path != config]
        self._set("models", json.dumps([str(path) for path in [config, *rest][:_RECENT]]))

    # -- tracks --------------------------------------------------------------------------------------------------

    @property
    def arrangement(self) -> Mapping[str, list[str]]:
        """Order, pins, folds and hidden tracks as `TimelineTracks.arrangement` gave them; empty at first."""
        found = self._json("tracks")
        pairs = found.items() if isinstance(found, dict) else ()
        return {name: [key for key in keys if isinstance(key, str)] for name, keys in pairs if isinstance(keys, list)}

    @arrangement.setter
    def arrangement(self, arrangement: Mapping[str, list[str]]) -> None:
        self._set("tracks", json.dumps(dict(arrangement)))
