"""
Rows of different sources that ask the same of the same: `python -m benchmarks.serving_pairs`.

Both have one model, format, chip, engine, way of capturing graphs, number of dies and of drafts, and tell the same
figure of about as many sequences of about as many tokens. What their inputs explain of the difference is divided out
(`apart` is the ratio of measured over predicted of both), so that no predictor of these inputs whose own ratio is as
predicted can be nearer to both than `at best`. The last lines say what that makes of all rows, if sources deviate from
their inputs alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import combinations
from math import log, sqrt
from pathlib import Path
from statistics import NormalDist, median

from benchmarks.engine_hosts import DATA, hosts_of_others
from benchmarks.engine_rows import ENGINE, WHOLE, EngineRow, engine_rows
from benchmarks.markdown import table
from memplan.core.bisection import crossing
from memplan.models import ModelConfig, load_config

_NEAR, _NEAR_PROMPT = 4.0, 2.0
"""How many times as many sequences and tokens of each a pair's rows may have; of first tokens, tokens of the prompt."""
_LEAST_SIZE = 16
"""Numbers of a layer below this are switches and counts of small parts."""
_USUAL, _FAR = 0.15, 0.4


@dataclass(frozen=True, slots=True)
class RowPair:
    """Two rows, the slower one by its inputs first, and what was measured over what is predicted of it by the other."""

    slower: EngineRow
    quicker: EngineRow
    apart: float

    @property
    def at_best(self) -> float:
        """The least error that both are within, if a predictor's ratio of them is as it is predicted."""
        return (self.apart - 1) / (self.apart + 1)

    @property
    def told(self) -> bool:
        """Whether all inputs of both are told."""
        return not any("assumed" in row.told for row in (self.slower, self.quicker))


def row_pairs(rows: Iterable[EngineRow], data: Path) -> list[RowPair]:
    """The nearest pair of rows of each two sources that ask the same, the farthest apart first; `data` is shared."""
    left_out = "at_least", "foreign"
    rows = [
        row for row in rows if not (row.why or row.repeated or row.gave_constant or any(map(row.told.get, left_out)))
    ]
    others = hosts_of_others(rows)
    alike: dict[Hashable, list[tuple[EngineRow, float]]] = {}
    for row in rows:
        predicted = row.predicted(others[row.source][row.engine, row.alone])
        ratio = row.measured / predicted if row.timed else predicted / row.measured
        config = row.told["config"]
        model = load_config(data / config if isinstance(config, str) else config)
        alike.setdefault(_asked(row, model), []).append((row, ratio))
    found: dict[Hashable, tuple[float, RowPair]] = {}
    for asked, own in alike.items():
        for one, other in combinations(own, 2):
            distance = _distance(one[0], other[0])
            if distance is None:
                continue
            (slower, more), (quicker, less) = sorted((one, other), key=lambda each: -each[1])
            key = asked, frozenset((slower.source, quicker.source))
            pair = RowPair(slower, quicker, more / less)
            if key not in found or (distance, pair.apart) < (found[key][0], found[key][1].apart):
                found[key] = distance, pair
    return sorted((pair for _, pair in found.values()), key=lambda pair: -pair.apart)


def _asked(row: EngineRow, model: ModelConfig) -> Hashable:
    """What of a row's inputs must be equal."""
    told, layer = row.told, model.layers[-1]
    # Of one model configurations differ in names and in numbers that no step sees.
    sizes = tuple(value for value in astuple(layer.ffn) if isinstance(value, int) and value >= _LEAST_SIZE)
    mixers = frozenset(type(layer.mixer) for layer in model.layers)
    shape = len(model.layers), model.hidden_size, model.vocab_size, mixers, type(layer.ffn), sizes
    graphs = ENGINE if row.engine in WHOLE else row.engine
    dies = told["tensor"] * told["data"]
    return (*shape, told["chip"], told["precision"], told["drafts"], dies, graphs, row.first, row.timed)


def _distance(one: EngineRow, other: EngineRow) -> float | None:
    """How unlike the loads of two rows are, by logarithms; `None` of one source, or beyond what counts as near."""
    if one.source == other.source:
        return None
    loads = one.steps.load, other.steps.load
    requests, tokens, prompts = (
        abs(log(own / of))
        for own, of in zip(*((load.requests, load.context, load.prompt) for load in loads), strict=True)
    )
    near = max(requests, tokens) <= log(_NEAR) and (not one.first or prompts <= log(_NEAR_PROMPT))
    return requests + tokens if near else None


def pair_lines(pairs: Iterable[RowPair]) -> Iterator[tuple[str, ...]]:
    """A line of the table for each pair."""
    for pair in pairs:
        rows = pair.slower, pair.quicker
        yield (
            " / ".join(f"{row.told['name']} ({row.source[:60]})" for row in rows),
            " / ".join(f"{row.measured:.4g}" for row in rows),
            rows[0].unit,
            "told" if pair.told else "assumed",
            f"{pair.apart:.2f}",
            f"{pair.at_best:.0%}",
        )


@dataclass(frozen=True, slots=True)
class ReachableError:
    """What no predictor of the inputs alone does better than, if sources of `pairs` deviate from these alike."""

    pairs: int
    beyond_usual: int
    beyond_far: int
    at_best: float
    median: float
    far: float


def reachable_error(pairs: Sequence[RowPair]) -> ReachableError:
    """
    How many of the pairs permit neither row within 15 and 40 %, the median of what they permit, and of all rows the
    median error and the share beyond 40 % of a predictor that is right in the middle.

    Deviations are taken as log-normal and independent, so that two sources are further apart than either from the
    middle by the square root of two.
    """
    # Half of a normal distribution lies below its quartile, by size.
    width = median(log(pair.apart) for pair in pairs) / sqrt(2) / NormalDist().inv_cdf(0.75)
    deviation = NormalDist(sigma=width)

    def within(error: float) -> float:
        """The share of rows that are missed by no more."""
        return deviation.cdf(log(1 + error)) - deviation.cdf(log(1 - error))

    return ReachableError(
        len(pairs),
        sum(pair.at_best > _USUAL for pair in pairs),
        sum(pair.at_best > _FAR for pair in pairs),
        median(pair.at_best for pair in pairs),
        crossing(lambda error: within(error) >= 0.5, 0.0, 1 - 1e-9, within=1e-6),
        1 - within(_FAR),
    )


def main() -> None:
    """Print the pairs, and what they leave to reach."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="the shared data folder")
    data = parser.parse_args().data
    pairs = row_pairs(engine_rows(data), data)
    print("\n".join(table(("pair", "measured", "unit", "inputs", "apart", "at best"), list(pair_lines(pairs)))))
    told = [pair for pair in pairs if pair.told]
    lines = [(name, *reach_cells(reachable_error(own))) for name, own in (("all", pairs), ("told", told)) if own]
    header = ("inputs", "pairs", "beyond 15 %", "beyond 40 %", "at best", "median of all rows", "of them beyond 40 %")
    print("\n".join(table(header, lines)))


def reach_cells(found: ReachableError) -> tuple[str, ...]:
    """The cells of a line on what can be reached."""
    counts = found.pairs, found.beyond_usual, found.beyond_far
    return (*map(str, counts), f"{found.at_best:.1%}", f"{found.median:.1%}", f"{found.far:.1%}")


if __name__ == "__main__":
    main()
