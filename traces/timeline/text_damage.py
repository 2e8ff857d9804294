"""What is wrong with the text of a trace beyond single events: a missing end, escapes that JSON does not know."""

from __future__ import annotations

import re

UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
"""What files begin with that were saved as UTF-16."""
TAIL = 1 << 16  # bytes at the end of a file that tell whether it was written to its end
CUT_NOTE = "ends without its closing bracket: its end is missing"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPES = re.compile(r"\\(?:[\"\\/bfnrt]|u[0-9a-fA-F]{4})|\\")


def is_cut(head: bytes, tail: bytes) -> bool:
    """
    Whether a trace that begins with `head` and ends with `tail` stops between two events, or inside the last.

    After the phase of the last event come the brackets that close it, the list and, if there is one, the object around.
    False where `tail` shows no event.
    """
    last = tail.rfind(b'"ph"')
    if last < 0:
        return False
    rest = _STRING.sub(b"", tail[last:])
    closed = rest.count(b"}") + rest.count(b"]") - rest.count(b"{") - rest.count(b"[")
    opened = 3 if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{" else 2
    return closed < opened


def with_known_escapes(text: str) -> str:
    """`text` with each backslash that begins no escape of JSON (a Windows path, say) as one that stands for itself."""
    return _ESCAPES.sub(lambda match: match.group() if len(match.group()) > 1 else "\\\\", text)
