"""Sentences kept apart from the figures and names in them, so that they can be said in any language."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce


@dataclass(frozen=True, slots=True)
class Sentence:
    """
    English `text` with a `{}` for each of `values`.

    Values that are strings are figures and names, the same in every language; a word that has to be translated too is
    a sentence itself. Without values `text` is taken as it stands, braces and all.
    """

    text: str
    values: tuple[str | Sentence, ...] = ()

    def said(self, translate: Callable[[str], str]) -> str:
        """The sentence in the language that `translate` turns templates and words into."""
        if not self.values:
            return translate(self.text)
        values = (value if isinstance(value, str) else value.said(translate) for value in self.values)
        return translate(self.text).format(*values)

    def __str__(self) -> str:
        return self.said(str)


Text = Sentence | str
"""A sentence to translate, or a name or figure that is the same in every language."""


def joined(parts: Iterable[Text], pair: str) -> Text:
    """`parts` one after another; `pair` is the template of two, such as `{}, {}`. Raises `TypeError` for no parts."""
    return reduce(lambda first, more: Sentence(pair, (first, more)), parts)
