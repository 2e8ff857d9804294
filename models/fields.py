"""Reading a `config.json`: every field by name and type, with one clear error for what is missing or wrong."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from memplan.core.errors import InputError
from memplan.core.sentence import Sentence, Text

MOST_ELEMENTS = 2**24
"""No size of a published model comes near this; sizes beyond it would only overflow what is computed from them."""
MOST_LAYERS = 4096
"""More layers than any published model by far: a limit that keeps a wrong file from filling memory."""


class Fields:
    """
    The fields of one object of a `config.json`, as seen by the family `family`.

    `path` and `prefix` (such as `text_config.`) say where the object stands. `noted` collects what was taken from a
    documented default instead of the file.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        *,
        family: str,
        path: str | None = None,
        prefix: str = "",
        defaults: Mapping[str, Any] | None = None,
        defaults_source: str = "",
    ) -> None:
        self.values = values
        self.family = family
        self.path = path
        self.prefix = prefix
        self.noted: list[str] = []
        self._defaults = defaults or {}
        self._defaults_source = defaults_source

    def wrong(self, name: str, message: Text, remedy: Text | None = None) -> InputError:
        """An error about the field `name`."""
        return InputError(
            message,
            path=self.path,
            place=Sentence("field {}", (self.prefix + name,)),
            remedy=remedy,
        )

    def has(self, name: str) -> bool:
        """Whether the file gives the field a value other than null."""
        return self.values.get(name) is not None

    def _find(self, name: str) -> Any:
        if self.has(name):
            return self.values[name]
        if name in self._defaults:
            value = self._defaults[name]
            self.noted.append(f"{self.prefix}{name} = {value}: not in the file, {self._defaults_source}")
            return value
        near = difflib.get_close_matches(name, [key for key in self.values if isinstance(key, str)], n=1, cutoff=0.8)
        remedy = f"the file has {near[0]!r}" if near else "take the file as the model's publisher gives it"
        raise self.wrong(name, Sentence("is missing; the {} family needs it", (self.family,)), remedy)

    def count(self, name: str, *, least: int = 1, most: int = MOST_ELEMENTS) -> int:
        """The whole number `name`, from `least` to `most`."""
        value = self._find(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, Sentence("must be a whole number, found {!r:.40}", (value,)))
        if value < least:
            raise self.wrong(name, Sentence("must be a whole number from {}, found {}", (least, value)))
        if value > most:
            raise self.wrong(name, Sentence("must be at most {:,}, found {}", (most, value)))
        return value

    def count_any(self, *names: str, least: int = 1, most: int = MOST_ELEMENTS) -> int:
        """The whole number under the first of `names` that the file has: versions name some quantities anew."""
        for name in names:
            if self.has(name):
                return self.count(name, least=least, most=most)
        raise self.wrong(
            names[0],
            Sentence(
                "is missing, and so is {}; the {} family needs one of them", (" and ".join(names[1:]), self.family)
            ),
            "take the file as the model's publisher gives it",
        )

    def count_or(self, name: str, default: int, *, least: int = 0) -> int:
        """The whole number `name`, or `default` where the file says nothing."""
        return self.count(name, least=least) if self.has(name) else default

    def count_or_none(self, name: str, *, least: int = 1) -> int | None:
        """The whole number `name`, or `None` where the file says nothing."""
        return self.count(name, least=least) if self.has(name) else None

    def flag(self, name: str, default: bool) -> bool:
        """The truth value `name`, or `default`, which must be that of the family's published configuration class."""
        if not self.has(name):
            return default
        value = self.values[name]
        if not isinstance(value, bool):
            raise self.wrong(name, Sentence("must be true or false, found {!r:.40}", (value,)))
        return value

    def number(self, name: str) -> float:
        """The number `name`."""
        value = self._find(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(name, Sentence("must be a number, found {!r:.40}", (value,)))
        return float(value)

    def text_or_none(self, name: str) -> str | None:
        """The text `name`, or `None` where the file says nothing."""
        if not self.has(name):
            return None
        value = self.values[name]
        if not isinstance(value, str):
            raise self.wrong(name, Sentence("must be a text, found {!r:.40}", (value,)))
        return value

    def list_of(self, name: str, kind: type, *, at_least: int) -> Sequence[Any]:
        """The first `at_least` entries of the list `name`, all of type `kind`; the file may hold more."""
        value = self._find(name)
        if not isinstance(value, list):
            raise self.wrong(name, Sentence("must be a list, found {!r:.40}", (value,)))
        if len(value) < at_least:
            raise self.wrong(name, Sentence("has {} [entry|entries] for {} [layer|layers]", (len(value), at_least)))
        for number, item in enumerate(value[:at_least]):
            if not isinstance(item, kind) or (kind is int and isinstance(item, bool)):
                raise self.wrong(
                    f"{name}[{number}]", Sentence("must be of type {}, found {!r:.40}", (kind.__name__, item))
                )
        return value[:at_least]

    def whole_list(self, name: str, kind: type, *, required: bool = False) -> Sequence[Any]:
        """The whole list `name`, all of type `kind`; empty where the file says nothing and it is not `required`."""
        if not self.has(name) and not required:
            return ()
        value = self._find(name)
        return self.list_of(name, kind, at_least=len(value) if isinstance(value, list) else 0)

    def within(self, name: str, *, family: str | None = None) -> Fields:
        """The object `name`, whose errors name the whole path to a field."""
        value = self._find(name)
        if not isinstance(value, Mapping):
            raise self.wrong(name, Sentence("must be an object, found {!r:.40}", (value,)))
        return Fields(value, family=family or self.family, path=self.path, prefix=f"{self.prefix}{name}.")


def layer_count(fields: Fields, name: str = "num_hidden_layers") -> int:
    """The number of layers of the decoder."""
    count = fields.count(name)
    if count > MOST_LAYERS:
        raise fields.wrong(name, Sentence("must be at most {}, found {}", (MOST_LAYERS, count)))
    return count
