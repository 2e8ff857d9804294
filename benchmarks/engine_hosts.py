"""
What hosts take, found from the rows of `benchmarks/engine_rows.py`, and how they differ: `python -m
benchmarks.engine_hosts` prints both beside what `memplan/serving/constants.json` ships.

Times are medians over sources, each of which counts once: of a kernel that is launched by itself what eager steps take;
of a step what was measured beyond the captured graph that is predicted, and then of models whose layers engines run in
kernels that reference stacks fuse, by layer of theirs; of graphs captured in pieces what small batches take a layer; of
first tokens of such models that launching sets, by layer again. What a request takes is that with which other first
tokens are missed least, as where kernels take most of them what is left says little of it. Baselines, which runs must
reach and may be ahead of by any amount, are in none, nor are first tokens of which an input was assumed. Each row is
also predicted with what the other sources say; rows that were predicted blind are in none of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import log
from pathlib import Path
from statistics import mean, median, quantiles

from benchmarks.engine_rows import (
    ALIKE,
    EAGER,
    ENGINE,
    HIDDEN,
    MINDIE,
    PIECEWISE,
    WHOLE,
    EngineRow,
    Hosts,
    asked_by_somebody,
    engine_rows,
    shipped_hosts,
)
from benchmarks.markdown import table
from benchmarks.measured_row import MeasuredRow
from memplan.engines import CAPTURED, DEFAULT_ENGINE
from memplan.serving.constants import EngineHost, engine_host, host_interval

DATA = Path(__file__).parents[2] / "shared/data"
_FINE_NS, _MOST_FINE = 250_000, 120
"""How fine a time between machines is looked for, and up to how many times as much."""
_HOSTS_PART = 0.5
"""What kernels take at most of a first token that launching them sets."""
_FEW = 2
"""Sequences with which a step of captured pieces is its host's."""


def fitted_rows(rows: Iterable[EngineRow]) -> list[EngineRow]:
    """
    Those that constants come from: not blind, with a prediction, and no baselines.

    Of first tokens those alone of which all inputs are told: an assumed prompt is most of one.
    """
    return [
        row
        for row in rows
        if not (row.told.get("blind") or row.told.get("at_least") or row.why)
        and (row.first or row.engine not in HIDDEN)
        and not (row.first and "assumed" in row.told)
    ]


def found_hosts(rows: Sequence[EngineRow]) -> Hosts:
    """The hosts as `rows` have them."""
    first, rows = [row for row in rows if row.first], [row for row in rows if not row.first]
    whole = [row for row in rows if row.engine in (*WHOLE, *ALIKE) and not row.told["eager_drafts"]]
    host = replace(engine_host(ENGINE), step_ns=0, unfused_layer_ns=0, prompt_unfused_layer_ns=0, request_ns=0)
    host = _solved([row for row in rows if row.engine == EAGER], host, ("kernel_ns", "launch_ns"))
    host = replace(host, kernel_ns=0)
    # What one process launches piece by piece hides behind the kernels, as steps of one die show.
    single = [row for row in rows if row.alone and row.engine == PIECEWISE]
    host = _solved([*(row for row in whole if not _unfused(row)), *single], host, ("step_ns",))
    mindie = [row for row in rows if row.engine == MINDIE]
    unlaunched = _between(mindie, replace(engine_host(MINDIE), step_ns=0), "step_ns")
    own = {MINDIE: unlaunched, CAPTURED: engine_host(CAPTURED)}
    host = _least_missed([row for row in first if not _unfused(row)], host, own, "request_ns")
    launched = [row for row in first if _unfused(row) and _mostly_launched(row)]
    host = _solved(launched, host, ("prompt_unfused_layer_ns",))
    host = _solved([row for row in whole if _unfused(row)], host, ("unfused_layer_ns",))
    pieces_of_layer = median(
        _by_source(
            (row.source, row.measured * row.steps.yielded * 1e6 / row.steps.work.layers)
            for row in rows
            if row.engine == PIECEWISE
            and row.timed
            and not row.alone
            and row.batch <= _FEW
            and not row.told.get("mean")
        )
    )
    layer_ns = round(pieces_of_layer)
    prompts = replace(host, prompt_layer_ns=layer_ns)  # captured in pieces beside whole graphs
    pieces, eager = replace(prompts, layer_ns=layer_ns), replace(host, kernel_ns=host.launch_ns)
    hosts: dict[tuple[str, bool], EngineHost] = {}
    for one in (False, True):
        launching = {PIECEWISE: host if one else pieces, DEFAULT_ENGINE: host if one else prompts, EAGER: eager}
        served = {**dict.fromkeys((*WHOLE, *ALIKE), host), **launching}
        hosts |= {(engine, one): _like(engine, item) for engine, item in served.items()}
        hosts |= {(engine, one): hidden for engine, hidden in own.items()}
    return asked_by_somebody(hosts, host.request_ns)


def _unfused(row: EngineRow) -> bool:
    """Whether its engine runs layers of the row's in kernels that reference stacks fuse."""
    own = engine_host(row.engine)
    if not row.first:
        return own.unfused(row.steps.work) > 0
    return row.steps.prompt_work.unfused + row.steps.prompt_work.recurrent * own.prompt_recurrence_counts > 0


def _mostly_launched(row: EngineRow) -> bool:
    """Whether the kernels of its prompt take so little of a first token that launching them sets it."""
    return row.steps.prompt_ns < _HOSTS_PART * row.measured * 1e6


def _like(engine: str, host: EngineHost) -> EngineHost:
    """`host` as one that fuses and captures as `engine` does."""
    return host.counting_like(engine_host(engine))


def _solved(rows: Iterable[EngineRow], host: EngineHost, names: Sequence[str]) -> EngineHost:
    """`host` with that time for `names` with which `rows` are what was measured, the median over their sources."""
    time = median(_by_source((row.source, row.solved(_like(row.engine, host), names)) for row in rows))
    return replace(host, **dict.fromkeys(names, max(0, round(time))))


def _least_missed(
    rows: Sequence[EngineRow], host: EngineHost, others: Mapping[str, EngineHost], name: str
) -> EngineHost:
    """
    `host` with that time for `name` with which `rows` are missed least, by logarithms; each source counts once.

    Engines that launch nothing have `others`.
    """
    own = [others.get(row.engine, _like(row.engine, host)) for row in rows]

    def missed(time: int) -> float:
        return sum(
            _by_source(
                (
                    (row.source, abs(log(row.predicted(replace(one, **{name: time})) / row.measured)))
                    for row, one in zip(rows, own, strict=True)
                ),
                mean,
            )
        )

    # The least is where one of the rows is met.
    times = [max(0, round(row.solved(host, (name,)))) for row, host in zip(rows, own, strict=True)]
    return replace(host, **{name: min(times, key=missed)})


def _between(rows: Sequence[EngineRow], host: EngineHost, name: str) -> EngineHost:
    """
    `host` with that time for `name` with which the squares of logarithms are least, each source counting once.

    Where some machines show it and some don't, there is nothing in their middle that a median would find.
    """

    def missed(time: float) -> float:
        one = replace(host, **{name: round(time)})
        return sum(_by_source(((row.source, log(row.predicted(one) / row.measured) ** 2) for row in rows), mean))

    return replace(host, **{name: round(_FINE_NS * min(range(_MOST_FINE), key=lambda steps: missed(_FINE_NS * steps)))})


def _by_source(values: Iterable[tuple[str, float]], middle: Callable[[Sequence[float]], float] = median) -> list[float]:
    """The middle of what each source says."""
    sources: dict[str, list[float]] = {}
    for source, value in values:
        sources.setdefault(source, []).append(value)
    return [middle(found) for found in sources.values()]


@dataclass(frozen=True, slots=True)
class HostSpread:
    """
    What a row says of its host: the `share` of its time that is predicted to be the host's, and measured over predicted
    time of the whole (`times`) and of the host alone.
    """

    source: str
    share: float
    times: float
    host_times: float


def host_spread(row: EngineRow, hosts: Hosts) -> HostSpread:
    """What `row` says of hosts, predicted with `hosts`."""
    host = hosts[row.engine, row.alone]
    told = (row.predicted(host), row.predicted(engine_host(CAPTURED)), row.measured)
    whole, kernels, measured = told if row.timed else tuple(1 / value for value in told)
    if row.first:
        kernels = row.steps.prompt_ns / 1e6
    own = whole - kernels
    return HostSpread(row.source, own / whole, measured / whole, (measured - kernels) / own if own > 0 else 1.0)


def host_quantiles(found: Iterable[HostSpread]) -> tuple[float, float]:
    """The 10 and 90 % quantiles over sources of what hosts take, where they take much of a step."""
    least = host_interval().at_least
    tenths = quantiles(
        _by_source((item.source, item.host_times) for item in found if item.share >= least), n=10, method="inclusive"
    )
    return tenths[0], tenths[-1]


def hosts_of_others(rows: Sequence[EngineRow]) -> Mapping[str, Hosts]:
    """The hosts as all other sources of `rows` have them, by source; of one that says nothing, what all say."""
    fitted = fitted_rows(rows)
    every, saying = found_hosts(fitted), {row.source for row in fitted}
    return {
        source: found_hosts([row for row in fitted if row.source != source]) if source in saying else every
        for source in dict.fromkeys(row.source for row in rows)
    }


def measured_engine_rows(rows: Sequence[EngineRow]) -> Iterator[MeasuredRow]:
    """`rows` with the constants as shipped, and as the other sources have them."""
    shipped = shipped_hosts()
    fitted, others = fitted_rows(rows), hosts_of_others(rows)
    for row in rows:
        if row.why:
            yield MeasuredRow(
                row.kind, row.source, row.told["chip"], row.told["name"], row.unit, row.measured, None, why=row.why
            )
            continue
        yield MeasuredRow(
            row.kind, row.source, row.told["chip"], row.told["name"], row.unit, row.measured,
            row.predicted(shipped[row.engine, row.alone]), is_source=row in fitted or row.gave_constant,
            left_out=None if row.gave_constant else row.predicted(others[row.source][row.engine, row.alone]),
        )  # fmt: skip


def host_lines(rows: Sequence[EngineRow]) -> Iterator[tuple[str, str, str]]:
    """Each time and quantile of hosts that is shipped and, as `rows` have it, found; in milliseconds, and as ratios."""
    shipped, found = shipped_hosts(), found_hosts(fitted_rows(rows))
    told: set[tuple[str, int]] = set()
    for engine, host in shipped.items():
        for name in (field.name for field in fields(host) if field.name.endswith("_ns")):
            own = getattr(host, name)
            if own and (name, own) not in told:
                told.add((name, own))
                yield f"{engine[0]}, {name}", f"{own / 1e6:.3g}", f"{getattr(found[engine], name) / 1e6:.3g}"
    others, interval = hosts_of_others(rows), host_interval()
    spread = host_quantiles(host_spread(row, others[row.source]) for row in rows if not row.why and row.alike)
    for name, own, now in zip(("low", "high"), (interval.low, interval.high), spread, strict=True):
        yield f"hosts, {name}", f"{own:.3g}", f"{now:.3g}"


def main() -> None:
    """Print the hosts as shipped beside those that the rows of now have."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="the shared data folder")
    print("\n".join(table(("time, ms", "shipped", "found"), list(host_lines(engine_rows(parser.parse_args().data))))))


if __name__ == "__main__":
    main()
