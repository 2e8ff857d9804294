"""Colours of what is drawn: by theme, by kind of memory and by category of slice; all from `data/palettes.json`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memplan.core.resources import table

_COLOUR = re.compile("#[0-9a-fA-F]{6}")
_LINE_CONTRAST = 3.0  # WCAG 2.2, 1.4.11
_LINE_STEPS = 20  # from a colour of its own to that of text


def _data() -> Mapping[str, Any]:
    return table("memplan.gui", "data/palettes.json")


def palette_names() -> tuple[str, ...]:
    """Names of the category palettes to choose from."""
    return tuple(_data()["palettes"])


def kind_names() -> tuple[str, ...]:
    """Kinds of tensors with a colour of their own."""
    return tuple(_data()["kinds"])


def overlap_names() -> tuple[str, ...]:
    """Parts of an overlap analysis with a colour of their own, as profilers name them."""
    return tuple(_data()["overlap"])


def theme_names() -> tuple[str, ...]:
    """Names of the themes to choose from."""
    return tuple(_data()["themes"])


def _rgb(text: str) -> int:
    return 0xFF000000 | int(text.removeprefix("#"), 16)


def contrast(one: int, other: int) -> float:
    """Contrast of two colours from 1 to 21 as WCAG 2.2 defines it (relative luminance of sRGB, 1.4.3)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: int) -> float:
    parts = [(colour >> shift & 255) / 255 for shift in (16, 8, 0)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@dataclass(frozen=True, slots=True)
class Palette:
    """
    The colours of one theme and of the set of category colours called `name`, each an `0xFFRRGGBB` integer.

    `overrides` are the user's own colours by category or kind, as `#RRGGBB`.
    """

    theme: str
    name: str
    colours: tuple[int, ...]
    roles: Mapping[str, int]
    overrides: Mapping[str, str]

    def role(self, name: str) -> int:
        """Colour of a part of the window such as `ground`, `grid` or `planned`."""
        return self.roles[name]

    def css(self, name: str) -> str:
        """The same as `#RRGGBB`."""
        return f"#{self.roles[name] & 0xFFFFFF:06X}"

    def kind(self, kind: str) -> int:
        """Colour of a kind of tensor; unknown kinds get one by their name."""
        if kind in self.overrides:
            return _rgb(self.overrides[kind])
        known = _data()["kinds"].get(kind)
        return self.colours[known % len(self.colours)] if known is not None else self.category(kind)

    def category(self, name: str) -> int:
        """
        Colour of a category of slices: the same for one name in every profile and on every machine.

        Waits are grey; communication, copies and matrix products have a colour each. What else computes is told apart
        by name, in colours that none of these has, nor deviations.
        """
        if name in self.overrides:
            return _rgb(self.overrides[name])
        fixed = _data()["overlap"].get(name)
        if fixed is not None:
            return self.colours[int(fixed) % len(self.colours)]
        family = _family(name)
        if family is not None:
            if "role" in family:
                return self.roles[str(family["role"])]
            return self.colours[int(family["colour"])]
        others = self.others
        return others[zlib.crc32(name.encode()) % len(others)]

    @property
    def others(self) -> tuple[int, ...]:
        """The colours of what computes and belongs to no family."""
        return tuple(self.colours[place] for place in _data()["compute"][self.name])

    def label_on(self, colour: int) -> int:
        """What can be read best on `colour`: black or white, one of which always has a contrast of 4.5 : 1 or more."""
        black, white = 0xFF000000, 0xFFFFFFFF
        return black if contrast(colour, black) >= contrast(colour, white) else white

    def line(self, colour: int) -> int:
        """
        `colour` for a line on the ground: mixed with that of text until it has a contrast of 3 : 1 or more.

        WCAG 2.2, 1.4.11 asks that of what must be seen to understand a picture.
        """
        text, ground = self.role("text"), self.role("ground")
        shares = (1 - step / _LINE_STEPS for step in range(_LINE_STEPS + 1))
        mixes = (tinted(colour, text, share) for share in shares)
        return next((mixed for mixed in mixes if contrast(mixed, ground) >= _LINE_CONTRAST), text)

    def table(self, names: Sequence[str]) -> NDArray[np.uint32]:
        """Colours of many categories, for the drawing kernels; at least one row."""
        return np.array([self.category(name) for name in names] or [self.colours[0]], dtype=np.uint32)


@lru_cache(maxsize=1 << 16)
def _family(name: str) -> Mapping[str, Any] | None:
    """What all names of a family share, `None` for a name of none."""
    return next((one for one in _data()["families"] if re.search(one["names"], name, re.IGNORECASE)), None)


def load_palette(
    theme: str = "light", colours: str = "okabe-ito", overrides: Mapping[str, str] | None = None
) -> Palette:
    """The palette `colours` in `theme`; unknown names fall back to the defaults."""
    data = _data()
    roles = data["themes"].get(theme, data["themes"]["light"])
    name = colours if colours in data["palettes"] else "okabe-ito"
    return Palette(
        theme=theme if theme in data["themes"] else "light",
        name=name,
        colours=tuple(_rgb(text) for text in data["palettes"][name]),
        roles={name: _rgb(text) for name, text in roles.items()},
        overrides={key: text for key, text in (overrides or {}).items() if _COLOUR.fullmatch(text)},
    )


def tinted(colour: int, ground: int, share: float = 0.35) -> int:
    """`colour` thinned to `share` over `ground`."""
    mixed = 0xFF
    for shift in (16, 8, 0):
        part = round((colour >> shift & 255) * share + (ground >> shift & 255) * (1 - share))
        mixed = mixed << 8 | part
    return mixed
