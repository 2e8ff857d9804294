"""
Measured steps run again by the event model: `python -m benchmarks.replay [--data DIR] [--out FILE]`.

What goes in of the rank that is checked: how long each kernel ran, its stream, and the order. An op follows what had
ended on other streams when it began; a collective begins to move bytes when its last member has come, and takes what it
took on the member that waited least. The host issues ops one after the other; how long it takes for each is measured on
another rank of the run, never on the one that is checked. Start times, waits and gaps of that rank are what comes out.

- Ranks without kernels in the data give how long they worked between two communications, their own or those of the rank
  beside them in the same pipeline stage, and when they came to their first.
- Where the other rank has no kernels, the host's interval in each stretch between two communications is the one with
  which this rank's kernels take as long as that rank needed for the same stretch. The first and the last stretch have
  none there and take that of the nearest of at least ten kernels.
- Where it has, what its device waited for was issued when it began, and the rest evenly between.
- The host waits for a collective beside which nothing ran.

The further rows leave something out: what the rank beside it did (then nobody is waited for within the stage), and the
host. `arrivals off` is how far any of its communications begins from where it was measured, at most: where the other
stage is the slow one, its given times alone come near the Stage, and this column says what the replay is worth.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from memplan.schema.stream_timeline import StreamOp, StreamTimes, run_streams
from memplan.traces import open_profile
from memplan.traces.rank import RankProfile

PROJECT = Path(__file__).resolve().parents[1]
_FEW, _HOST_BOUND_NS = 10, 5_000
"""Kernels of a stretch that tells the host's interval, and a gap of the device that only the host explains."""


@dataclass(frozen=True, slots=True)
class RunOp:
    """
    An op of a rank in the order of its start: a kernel, or its part of the collective `meets` (name and communicator).

    Where it began and ended says what it follows and how long it ran, nothing else.
    """

    type: str
    stream: int
    start_ns: int
    end_ns: int
    meets: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RankScript:
    """What one rank does, op by op: needs by place, host time before each, whether the host waits for it."""

    ops: tuple[RunOp, ...]
    durations_ns: tuple[int, ...]
    needs: tuple[tuple[int, ...], ...]
    host_ns: tuple[int, ...]
    host_waits: tuple[bool, ...]
    begins_ns: int = 0


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """
    A rank's step as measured and as replayed; `kernels_ns` is its computing alone, `arrivals_off_ns` how far any of its
    communications begins from where it was measured.
    """

    run: str
    rank: int
    host_from: int
    kernels_ns: int
    measured_ns: int
    replayed_ns: int
    measured_communication_ns: int
    replayed_communication_ns: int
    arrivals_off_ns: int

    @property
    def error(self) -> float:
        """Replayed over measured, less 1."""
        return self.replayed_ns / self.measured_ns - 1


def run_ops(rank: RankProfile) -> list[RunOp]:
    """The kernels and communications of a rank's step, as far as it has them, by start."""
    kernels, told = rank.kernels(), rank.communications()
    if kernels is None:
        return [RunOp("communication", -1, one.start_ns, one.end_ns, (one.op, one.group)) for one in told]
    names = {one.op: one.group for one in told}
    ops = []
    for index in range(len(kernels)):
        start = int(kernels.start_ns[index])
        name = kernels.name[index]
        meets = (name, names[name]) if name in names else None
        stream = -1 if meets else int(kernels.stream[index])
        ops.append(RunOp(kernels.type[index], stream, start, start + int(kernels.duration_ns[index]), meets))
    return sorted(ops, key=lambda op: (op.start_ns, op.end_ns))


def followed(ops: Sequence[RunOp]) -> list[tuple[int, ...]]:
    """For each op the last op of each other stream that had ended when it began."""
    ended: dict[int, list[tuple[int, int]]] = defaultdict(list)
    found = []
    for place, op in enumerate(ops):
        needs = []
        for stream, ends in ended.items():
            if stream != op.stream:
                last = bisect_right(ends, (op.start_ns, len(ops))) - 1
                if last >= 0:
                    needs.append(ends[last][1])
        found.append(tuple(needs))
        ended[op.stream].append((op.end_ns, place))
    return found


def waited_by_host(ops: Sequence[RunOp]) -> list[bool]:
    """Which ops are collectives beside which nothing began or ran."""
    alone = []
    for place, op in enumerate(ops):
        before = max((other.end_ns for other in ops[:place]), default=op.start_ns)
        after = ops[place + 1].start_ns if place + 1 < len(ops) else op.end_ns
        alone.append(op.meets is not None and before <= op.start_ns + _HOST_BOUND_NS and after >= op.end_ns)
    return alone


def stream_script(scripts: Sequence[RankScript]) -> tuple[list[StreamOp], list[list[int]], list[list[int]]]:
    """
    The ops of all ranks for the event model, the queue of each rank, and the places of its ops among them.

    Each rank has its host on a stream of its own, which issues op by op.
    """
    ops: list[StreamOp] = []
    queues: list[list[int]] = []
    places: list[list[int]] = []
    meetings: dict[tuple[str, str], int] = {}
    for number, script in enumerate(scripts):
        streams = {stream: place for place, stream in enumerate(sorted({op.stream for op in script.ops}), start=1)}
        host = number * 100
        first = len(ops)
        mine: list[int] = []
        waits_for: tuple[int, ...] = ()
        for place, op in enumerate(script.ops):
            held = script.begins_ns if place == 0 else 0
            ops.append(StreamOp(script.host_ns[place], host, waits_for, held))
            issued = len(ops) - 1
            needs = (issued, *(mine[need] for need in script.needs[place]))
            meeting = None if op.meets is None else meetings.setdefault(op.meets, len(meetings))
            ops.append(StreamOp(script.durations_ns[place], host + streams[op.stream], needs, meeting=meeting))
            mine.append(len(ops) - 1)
            if script.host_waits[place]:
                waits_for = (mine[-1],)
        queues.append(list(range(first, len(ops))))
        places.append(mine)
    return ops, queues, places


def replayed(scripts: Sequence[RankScript]) -> tuple[StreamTimes, list[list[int]]]:
    """All ranks together, and the places of each one's ops."""
    ops, queues, places = stream_script(scripts)
    return run_streams(ops, queues), places


def least_times(runs: Mapping[int, Sequence[RunOp]]) -> dict[tuple[str, str], int]:
    """By collective, how long it took on the member that waited least."""
    least: dict[tuple[str, str], int] = {}
    for ops in runs.values():
        for op in ops:
            if op.meets is not None:
                taken = op.end_ns - op.start_ns
                least[op.meets] = min(taken, least.get(op.meets, taken))
    return least


def script_of(ops: Sequence[RunOp], host_ns: Sequence[int], least: Mapping[tuple[str, str], int]) -> RankScript:
    """The script of a rank with kernels."""
    durations = tuple(op.end_ns - op.start_ns if op.meets is None else least[op.meets] for op in ops)
    return RankScript(tuple(ops), durations, tuple(followed(ops)), tuple(host_ns), tuple(waited_by_host(ops)))


def working_script(ops: Sequence[RunOp], least: Mapping[tuple[str, str], int]) -> RankScript:
    """The script of a rank of which only communications are known: what lies between is its host's time."""
    gaps = [0, *(max(after.start_ns - before.end_ns, 0) for before, after in pairwise(ops))]
    count = len(ops)
    durations = tuple(least[op.meets] for op in ops if op.meets is not None)
    return RankScript(tuple(ops), durations, ((),) * count, tuple(gaps), (True,) * count)


def fitted_host(ops: Sequence[RunOp], other: Sequence[RunOp]) -> list[int]:
    """
    Host time before each of `ops`, from how long a rank of the same stage needed between its communications.

    Raises `ValueError` where the two don't communicate in the same order.
    """
    meets = [place for place, op in enumerate(ops) if op.meets is not None]
    if len(meets) != len(other):
        raise ValueError("the two ranks don't do the same")
    found: dict[tuple[int, int], int] = {}
    for number, (begin, end) in enumerate(pairwise(meets)):
        wanted = other[number + 1].start_ns - other[number].end_ns
        found[begin + 1, end + 1] = _interval(ops[begin + 1 : end + 1], wanted)
    longest = max(end - begin for begin, end in found)
    known = [value for (begin, end), value in found.items() if end - begin > min(_FEW, longest - 1)]
    host = [0, *[known[0]] * meets[0]]
    for (begin, end), value in found.items():
        host += [value] * (end - begin)
    return host + [known[-1]] * (len(ops) - len(host))


def _interval(ops: Sequence[RunOp], wanted_ns: int) -> int:
    """The host time before each op with which the last of `ops` starts `wanted_ns` after the host begins."""
    zero = {op.meets: 0 for op in ops if op.meets is not None}
    script = script_of(ops, [0] * len(ops), zero)
    low, high = 0, max(wanted_ns, 1)
    while low < high:
        middle = (low + high) // 2
        times, places = replayed([replace(script, host_ns=(middle,) * len(ops))])
        if times.start_ns[places[0][-1]] < wanted_ns:
            low = middle + 1
        else:
            high = middle
    return low


def measured_host(other: Sequence[RunOp], ops: Sequence[RunOp]) -> list[int]:
    """Host time before each of `ops`, from the kernels of a rank that runs the same, by type and turn."""
    needs = followed(other)
    last: dict[int, int] = {}
    issued: list[tuple[int, int]] = []
    for place, op in enumerate(other):
        ready = max((other[need].end_ns for need in needs[place]), default=0)
        if not place or op.start_ns - max(ready, last.get(op.stream, 0)) > _HOST_BOUND_NS:
            issued.append((place, op.start_ns))
        last[op.stream] = max(last.get(op.stream, 0), op.end_ns)
    host = [0.0] * len(other)
    for (begin, since), (end, until) in pairwise(issued):
        for place in range(begin + 1, end + 1):
            host[place] = (until - since) / (end - begin)
    turn: dict[str, int] = defaultdict(int)
    by_turn: dict[tuple[str, int], float] = {}
    for op, taken in zip(other, host, strict=True):
        by_turn[op.type, turn[op.type]] = taken
        turn[op.type] += 1
    turn.clear()
    found = []
    for op in ops:
        found.append(round(by_turn.get((op.type, turn[op.type]), 0)))
        turn[op.type] += 1
    return found


def _stand_in(ops: Sequence[RunOp], beside: Sequence[RunOp], mine: Sequence[RunOp]) -> list[RunOp]:
    """`ops` of the rank that `beside` talks to, as those of the one that `mine` talks to: communicators renamed."""
    names = {
        there.meets: here.meets
        for here, there in zip((op for op in mine if op.meets is not None), beside, strict=True)
    }  # fmt: skip
    groups = {there[1]: here for there, here in names.items() if there is not None and here is not None}
    renamed = []
    for op in ops:
        meets = op.meets
        if meets in names:
            meets = names[meets]
        elif meets is not None and meets[1] not in groups:
            meets = meets[0], f"{meets[1]} again"
        renamed.append(replace(op, meets=meets))
    return renamed


def _step(
    run: str, rank: RankProfile, ops: Sequence[RunOp], host_from: int, times: StreamTimes, mine: Sequence[int]
) -> ReplayedStep:
    steps = rank.steps()
    stage = next((step.stage_ns for step in steps if step.stage_ns), None)
    if stage is None:
        raise ValueError(f"the step of rank {rank.rank} has no length")
    spans = [(times.start_ns[place], times.end_ns[place]) for place in mine]
    begin, measured = min(start for start, _ in spans), ops[0].start_ns
    talks = [place for place, op in enumerate(ops) if op.meets is not None]
    return ReplayedStep(
        run, rank.rank, host_from, sum(op.end_ns - op.start_ns for op in ops if op.meets is None), stage,
        max(end for _, end in spans) - begin,
        sum(ops[place].end_ns - ops[place].start_ns for place in talks),
        sum(spans[place][1] - spans[place][0] for place in talks),
        max(abs(spans[place][0] - begin - (ops[place].start_ns - measured)) for place in talks),
    )  # fmt: skip


def replayed_pipeline(path: Path, run: str) -> list[ReplayedStep]:
    """
    Rank 0 of two pipeline stages of two ranks each, of which ranks 0, 1 and 3 are there and only rank 0 has kernels.

    Rank 1 tells of the host, ranks 1 and 3 how long they work between communications; rank 3 stands in for rank 2.
    """
    profile = open_profile(path)
    mine, beside, behind = (run_ops(profile.rank(number)) for number in (0, 1, 3))
    other = _stand_in(behind, beside, mine)
    least = least_times({1: beside, 2: other, 3: behind})
    names = [op.meets for op in mine if op.meets is not None]
    for here, there in zip(names, beside, strict=True):
        if there.meets is not None:
            least[here] = min(least[there.meets], least.get(here, least[there.meets]))
    scripts = [script_of(mine, fitted_host(mine, beside), least)]
    scripts += [working_script(ops, least) for ops in (beside, other, behind)]
    # A rank's first communication begins its script: when it comes to it is given.
    begin = mine[0].start_ns
    scripts[1:] = [replace(script, begins_ns=script.ops[0].start_ns - begin) for script in scripts[1:]]
    without_host = replace(scripts[0], host_ns=(0,) * len(mine))
    found = []
    for name, chosen in (
        (run, scripts),
        (f"{run}: without rank 1", [scripts[0], *scripts[2:]]),
        (f"{run}: without its host", [without_host, *scripts[1:]]),
    ):
        times, places = replayed(chosen)
        found.append(_step(name, profile.rank(0), mine, 1, times, places[0]))
    return found


def replayed_pair(path: Path, run: str) -> list[ReplayedStep]:
    """Two ranks that do the same, both with kernels; each one's host as the other's was, their begins as measured."""
    profile = open_profile(path)
    runs = {number: run_ops(profile.rank(number)) for number in (0, 1)}
    least = least_times(runs)
    begin = min(ops[0].start_ns for ops in runs.values())
    scripts = [
        replace(
            script_of(runs[number], measured_host(runs[1 - number], runs[number]), least),
            begins_ns=runs[number][0].start_ns - begin,
        )
        for number in (0, 1)
    ]
    times, places = replayed(scripts)
    return [_step(run, profile.rank(rank), runs[rank], 1 - rank, times, places[rank]) for rank in (0, 1)]


def replayed_steps(data: Path) -> list[ReplayedStep]:
    """Every step at hand that can be replayed."""
    profiles = data / "profiles"
    return [
        *replayed_pipeline(profiles / "qwen3-0.6b-train-4rank", "Qwen3-0.6B, 2 stages of 2"),
        *replayed_pair(profiles / "alexnet-ddp-2rank" / "text" / "level2", "AlexNet, 2 ranks"),
    ]


def main() -> None:
    """Print the table, and write it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = [
        "run",
        "rank",
        "host as of rank",
        "kernels ms",
        "communication measured ms",
        "replayed ms",
        "arrivals off ms",
    ]
    head += ["Stage measured ms", "replayed ms", "off"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for step in replayed_steps(options.data):
        times = [step.kernels_ns, step.measured_communication_ns, step.replayed_communication_ns]
        times += [step.arrivals_off_ns, step.measured_ns, step.replayed_ns]
        cells = [step.run, str(step.rank), str(step.host_from), *(f"{value / 1e6:.1f}" for value in times)]
        lines.append("| " + " | ".join([*cells, f"{step.error:+.1%}"]) + " |")
    print("\n".join(lines))
    if options.out:
        text = "# Replayed steps\n\n" + (__doc__ or "").strip() + "\n\n"
        options.out.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
