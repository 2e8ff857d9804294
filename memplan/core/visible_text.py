"""Text whose every sign can be seen, for places where a line break or a control character would be read as an end."""

from __future__ import annotations


def visible_text(text: str) -> str:
    """
    `text` with what does not print as Python's escapes: line breaks of any alphabet, control and direction marks, lone
    surrogates. It is one line, and any encoding of Unicode holds it.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
