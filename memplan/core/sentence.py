"""Sentences kept apart from the figures and names in them, so that they can be said in any language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

_BY_NUMBER = re.compile(r"\[([^\[\]|{}]+)\|([^\[\]|{}]+)\]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """
    English `text` with a `{}` for each of `values`, which may say how a value is written: `{!r:.40}`.

    Values are figures and names, the same in every language; a word that has to be translated too is a sentence
    itself. Without values `text` is taken as it stands, braces and all.

    What goes by a number is written in both ways, `{} [kernel takes|kernels take] longer`: the first is said after 1,
    which is the value of the last `{}` before it, the second after any other. Languages that don't have it need not.
    """

    text: str
    values: tuple[object, ...] = ()

    def said(self, translate: Callable[[str], str]) -> str:
        """The sentence in the language that `translate` turns templates and words into."""
        if not self.values:
            return translate(self.text)
        values = [value.said(translate) if isinstance(value, Sentence) else value for value in self.values]
        return _agreed(translate(self.text), values).format(*values)

    def __str__(self) -> str:
        return self.said(str)


def _agreed(template: str, values: Sequence[object]) -> str:
    """`template` with the one of two wordings that suits the number before it."""
    if "|" not in template:
        return template

    def chosen(found: re.Match[str]) -> str:
        before = template.count("{", 0, found.start())
        return found[1] if before and str(values[before - 1]) == "1" else found[2]

    return _BY_NUMBER.sub(chosen, template)


Text = Sentence | str
"""A sentence to translate, or a name or figure that is the same in every language."""


def sentence_of(text: Text) -> Sentence:
    """`text` as a sentence to translate, whether it is one or English words."""
    return text if isinstance(text, Sentence) else Sentence(text)


def joined(parts: Iterable[Text], pair: str) -> Text:
    """`parts` one after another; `pair` is the template of two, such as `{}, {}`. Raises `TypeError` for no parts."""
    return reduce(lambda first, more: Sentence(pair, (first, more)), parts)
