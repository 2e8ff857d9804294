"""The one way models tell views that something changed."""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[], None]


class Event:
    """A list of callables, called in the order they were added; `disconnect` with what `connect` returned."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def connect(self, listener: Listener) -> Listener:
        """Call `listener` on every `emit` from now on."""
        self._listeners.append(listener)
        return listener

    def disconnect(self, listener: Listener) -> None:
        """Stop calling `listener`; nothing happens if it wasn't connected."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def emit(self) -> None:
        """Call every listener once."""
        for listener in tuple(self._listeners):
            listener()
