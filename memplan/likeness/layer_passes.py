"""How micro-batches go through the layers of a rank, by the order of a step's attentions and what ends their ways."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

FORWARD, BACKWARD = "F", "B"
NORM, NORM_BACK, GATE, GATE_BACK = "n", "N", "g", "G"
LOOKUP, LOOKUP_BACK, HEAD, HEAD_BACK, PIPE_TRANSFER = "e", "E", "h", "H", "p"
_ENDS = re.compile(f"[{LOOKUP}{LOOKUP_BACK}{HEAD}{HEAD_BACK}{PIPE_TRANSFER}]")
_RUNS = re.compile(f"{FORWARD}+|{BACKWARD}+")


@dataclass(frozen=True, slots=True)
class LayerPasses:
    """
    Passes of micro-batches through a rank's layers, as far as the profile holds the step.

    `layers` is how many attentions a pass has; `forward` and `backward` count the passes begun each way, `ahead` those
    forward before the first gradient (`None` where the profile begins inside the step). `cut` says that the profile
    holds part of a step only. `back` holds the letters of the way back that was seen best: forward kernels among them
    run again.
    """

    layers: int
    forward: int
    backward: int
    ahead: int | None
    cut: bool
    back: str

    @property
    def micro_batches(self) -> int:
        """At least so many micro-batches."""
        return max(self.forward, self.backward)


def layer_passes(order: str) -> LayerPasses | None:
    """
    Passes in a step's letters: `F` and `B` of attention and its gradient; `e` and `E` of a lookup of tokens and its
    gradient, `h` and `H` of the head and its gradient, `p` of transfers between stages, which end passes; `n`, `N`,
    `g`, `G` of norms and gates. `None` where there is no gradient of attention.
    """
    segments = _ENDS.split(order)
    ahead: list[int] = []
    first_back = None
    back: list[tuple[int, bool, str]] = []
    full = Counter[int]()
    for number, segment in enumerate(segments):
        inside = 0 < number < len(segments) - 1
        first, rest = _ways(segment)
        if first:
            ahead.append(first)
            full[first] += inside
        if rest:
            first_back = len(ahead) if first_back is None else first_back
            count = rest.count(BACKWARD)
            back.append((count, inside, rest))
            full[count] += inside
    if first_back is None:
        return None
    behind = [count for count, _, _ in back]
    layers = max(+full or Counter([*ahead, *behind]), key=lambda length: (full[length], length))
    forward, backward = (sum(-(-length // layers) for length in lengths) for lengths in (ahead, behind))
    begins_inside = not first_back or ahead[0] % layers != 0 or forward < backward
    return LayerPasses(
        layers=layers,
        forward=forward,
        backward=backward,
        ahead=None if begins_inside else sum(length // layers for length in ahead[:first_back]),
        cut=forward != backward or any(length % layers for length in (*ahead, *behind)),
        back=max(back, key=lambda item: item[:2])[2],
    )


def _ways(segment: str) -> tuple[int, str]:
    """
    Attentions of a segment on the way forward, and the letters of the way back.

    Single attentions before single gradients are layers computed again.
    """
    start = segment.find(BACKWARD)
    if start < 0:
        return segment.count(FORWARD), ""
    runs = _RUNS.findall("".join(letter for letter in segment if letter in (FORWARD, BACKWARD)))
    before = len(runs[0]) if runs[0][0] == FORWARD else 0
    gradients = segment.count(BACKWARD)
    again = segment.count(FORWARD, start)
    # All layers run again: the first of them does so before the first gradient.
    if not (before == 1 and (again or gradients == 1)) and not (before and again and again == gradients - 1):
        return before, segment[start:]
    begin = segment.rfind(FORWARD, 0, start)
    return before - 1, segment[max(segment.rfind(FORWARD, 0, begin) + 1, 0) :] if before > 1 else segment
