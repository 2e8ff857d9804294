"""Labels beside a stack, moved apart so that none lies over another."""

from __future__ import annotations

from collections.abc import Sequence


def spread(centres: Sequence[float], height: float, low: float, high: float) -> list[float]:
    """
    Places near `centres` (in ascending order), at least `height` apart and with half of it within `[low, high]`.

    Labels that crowd become one cluster centred on where they all want to be. Where all don't fit they start at `low`
    and run over `high`.
    """
    clusters: list[tuple[float, int]] = []  # the centre each wants to have in common, and how many labels

    def top(mean: float, count: int) -> float:
        room = max(high - low - count * height, 0.0)
        return min(max(mean - count * height / 2, low), low + room)

    for centre in centres:
        mean, count = centre, 1
        while clusters and top(*clusters[-1]) + clusters[-1][1] * height > top(mean, count):
            before, members = clusters.pop()
            mean = (before * members + mean * count) / (members + count)
            count += members
        clusters.append((mean, count))
    return [top(mean, count) + (place + 0.5) * height for mean, count in clusters for place in range(count)]
