"""Steps that read prompts and steps that make tokens, as they follow each other in an engine simulated step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from random import Random
from statistics import mean
from typing import Any

import pytest

from benchmarks.engine_rows import EngineRow
from memplan.models.parallel import Layout
from memplan.serving.closed_loop import ClosedLoop, longest
from memplan.serving.constants import HostWork, engine_host
from memplan.serving.loaded_steps import LoadedSteps, PromptSteps, RequestLoad

PROMPT, BASE, EACH, TOKEN = 1000, 10.0, 0.05, 0.02
"""Tokens of a prompt; milliseconds of a step, of each sequence in it, of each token of a prompt that it reads."""
_WORK = HostWork(layers=4, unfused=0, recurrent=0, kernels=40, drafted=0, sequences=1, tokens=1024)


@dataclass
class Served:
    """A request under way: tokens of its prompt and its answer that are left, when its first token and its end came."""

    prompt: int
    left: int
    length: int
    sent: float
    first: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Simulated:
    """Of an engine: mean milliseconds between tokens of an answer, to the first, and until the last one is done."""

    between: float
    first: float
    whole: float


def simulated(clients: int, waves: float, length: Callable[[], int], *, most: int, mixes: bool) -> Simulated:
    """
    `clients` who each send a request when theirs is done, `waves` of them in all, to an engine that reads up to `most`
    tokens of prompts in a step: beside making tokens, or before it makes any.
    """
    left, now, under_way = round(clients * waves), 0.0, list[Served]()
    done: list[Served] = []
    while left or under_way:
        while left and len(under_way) < clients:
            under_way.append(Served(PROMPT, made := length(), made, now))
            left -= 1
        budget, readers = most, list[Served]()
        for item in under_way:
            if item.prompt and budget:
                taken = min(budget, item.prompt)
                item.prompt -= taken
                budget -= taken
                readers.append(item)
        decoders = [item for item in under_way if not item.prompt and item not in readers]
        if readers and not mixes:
            decoders = []
        now += BASE + EACH * len(decoders) + TOKEN * (most - budget)
        for item in [*decoders, *(item for item in readers if not item.prompt)]:
            item.left -= 1
            item.first = item.first or now
            item.end = now
        done += [item for item in under_way if not item.left]
        under_way = [item for item in under_way if item.left]
    between = mean((item.end - item.first) / (item.length - 1) for item in done if item.length > 1)
    return Simulated(between, mean(item.first - item.sent for item in done), now)


def loop(clients: int, waves: int, answer: int, *, most: int, mixes: bool) -> ClosedLoop:
    group = min(clients, most // PROMPT)
    step, reading = BASE + EACH * clients, TOKEN * PROMPT * group
    mixed = step + reading if mixes else step + BASE + reading
    return ClosedLoop(clients, group, 1, waves, answer - 1, step, BASE + reading, mixed, apart=mixes)


@pytest.mark.parametrize("mixes", [True, False])
@pytest.mark.parametrize("waves", [1, 4])
@pytest.mark.parametrize(("clients", "answer", "most"), [(64, 128, 16000), (64, 500, 2000), (8, 300, 1000)])
def test_prompts_that_come_together_share_steps(clients: int, answer: int, most: int, waves: int, mixes: bool) -> None:
    """Went wrong once: each of 64 prompts was taken to stop all answers for a step of its own."""
    found = simulated(clients, waves, lambda: answer, most=most, mixes=mixes)
    told = loop(clients, waves, answer, most=most, mixes=mixes)
    assert told.step + told.among() / told.steps == pytest.approx(found.between, rel=0.05)
    assert waves * told.wave() == pytest.approx(found.whole, rel=0.05)
    burst = told.burst(mixes=mixes)
    first = burst / waves + (1 - 1 / waves) * told.mixed if mixes else burst
    assert first == pytest.approx(found.first, rel=0.02)


@pytest.mark.parametrize("waves", [1, 4])
@pytest.mark.parametrize(("clients", "answer"), [(200, 220), (16, 400)])
def test_answers_of_unequal_lengths_end_with_few_under_way(clients: int, answer: int, waves: int) -> None:
    drawn = Random(5)

    def length() -> int:
        return 1 + round(drawn.gammavariate(2, answer / 2))

    runs = [simulated(clients, waves, length, most=8000, mixes=True).whole for _ in range(5)]
    told = loop(clients, waves, answer + 1, most=8000, mixes=True)
    one = replace(told, mixed=told.step + TOKEN * PROMPT * told.coming())
    assert one.drained(BASE + EACH) == pytest.approx(mean(runs), rel=0.1)
    # Equal ones would be done far sooner where nobody waits for a place.
    assert waves > 1 or mean(runs) > 1.5 * told.wave()


def test_the_longest_of_more_answers_is_longer() -> None:
    drawn = Random(7)
    for answers in (1, 10, 200):
        seen = mean(max(drawn.gammavariate(2, 0.5) for _ in range(answers)) for _ in range(400))
        assert longest(answers) == pytest.approx(seen, rel=0.2, abs=0.25)
    assert longest(10) < longest(200) < longest(1000)


@pytest.mark.parametrize("waves", [1, 4, 16])
def test_prompts_that_come_apart_stop_answers_one_by_one(waves: int) -> None:
    drawn = Random(3)
    runs = [simulated(12, waves, lambda: drawn.randint(100, 300), most=PROMPT, mixes=False).between for _ in range(5)]
    apart = replace(loop(12, waves, 200, most=PROMPT, mixes=False), apart=True)
    assert apart.step + apart.among() / apart.steps == pytest.approx(mean(runs), rel=0.05)


@pytest.mark.parametrize("waves", [1.25, 1.5625, 3.5])
@pytest.mark.parametrize(("clients", "answer"), [(64, 500), (400, 300)])
def test_who_is_left_for_a_last_wave_runs_with_fewer(clients: int, answer: int, waves: float) -> None:
    """Went wrong once: of 50 requests, 32 at once, all were taken to run with 31 others."""
    found = simulated(clients, waves, lambda: answer, most=8000, mixes=True)
    step, single, group = BASE + EACH * clients, BASE + EACH, 8000 // PROMPT
    one, together = BASE + TOKEN * PROMPT, BASE + TOKEN * PROMPT * group
    told = LoadedSteps(
        RequestLoad(clients, PROMPT, answer, waves), PromptSteps(8000, mixes=True), Layout(),
        round(step * 1e6), round(single * 1e6), round(one * 1e6), round(together * 1e6), _WORK, _WORK, yielded=1.0,
    )  # fmt: skip
    host = engine_host("captured")
    assert told.token_ms(host) == pytest.approx(found.between, rel=0.05)
    assert round(clients * waves) * answer / told.tokens_per_second(host) == pytest.approx(found.whole / 1e3, rel=0.05)
    # What a median says is what most have.
    assert told.token_ms(host, mean=False) == pytest.approx(step)


LOAD = RequestLoad(1, 1024, 1)
STEPS = LoadedSteps(
    LOAD, PromptSteps(), Layout(), 3_000_000, 3_000_000, 10_000_000, 10_000_000, _WORK, _WORK, yielded=1.0
)


def test_a_first_token_takes_a_request_and_the_rest_of_a_step() -> None:
    host, work = engine_host("sglang"), replace(_WORK, unfused=4)
    steps = replace(STEPS, work=work, prompt_work=work)
    launched = 4 * host.prompt_unfused_layer_ns + 40 * host.launch_ns
    assert steps.first_token_ms(host) * 1e6 == pytest.approx(launched + host.request_ns)
    # Who comes while others are answered waits for the rest of the step under way, half of it on average.
    beside = host.step_ns + host.sequence_ns + 4 * host.unfused_layer_ns
    later = replace(steps, load=replace(LOAD, requests=8))
    assert (later.first_token_ms(host) - steps.first_token_ms(host)) * 1e6 == pytest.approx((3_000_000 + beside) / 2)


def test_waiting_prompts_share_a_step_of_as_many_tokens() -> None:
    """Prompts alone, one token each: eight of them in one step, in steps of three, and one by one."""
    host, work = engine_host("sglang"), _WORK
    eight = replace(STEPS, load=replace(LOAD, requests=8, waves=1))
    whole, three, single = (
        replace(eight, reading=PromptSteps(most), group_ns=group * 10_000_000)
        for most, group in ((8192, 8), (3072, 3), (1024, 1))
    )
    assert [steps.group for steps in (whole, three, single)] == [8, 3, 1]
    beside = host.step_ns + 8 * host.sequence_ns
    assert whole.tokens_per_second(host) == pytest.approx(8 / (8 * 10_000_000 + beside) * 1e9)
    taken = host.step(30_000_000, replace(work, sequences=3), reads=True)
    assert three.tokens_per_second(host) == pytest.approx(8 / (8 / 3 * taken) * 1e9)
    taken = host.step(10_000_000, work, reads=True)
    assert single.tokens_per_second(host) == pytest.approx(1e9 / taken)
    # Steps shorter than launching their kernels take as long as that does.
    launched = replace(three, prompt_work=replace(work, kernels=1000))
    assert launched.tokens_per_second(host) == pytest.approx(8 / (8 / 3 * 1000 * host.launch_ns) * 1e9)
    # Replicas read together what is sent at once; where they share experts each waits for what comes at a rate.
    twice = replace(launched, layout=Layout(data=2, expert=2))
    paced = replace(twice, load=replace(twice.load, one_by_one=True))
    assert twice.tokens_per_second(host) == pytest.approx(8 / (4 / 3 * 1000 * host.launch_ns) * 1e9)
    assert paced.tokens_per_second(host) == pytest.approx(8 / (8 * 1000 * host.launch_ns) * 1e9)


TOLD = {
    "tensor": 1, "data": 1, "expert": 1, "batch": 1, "prompt": 1024, "output": 1, "drafts": 0,
    "eager_drafts": False, "engine": "sglang", "family": "SGLang",
}  # fmt: skip


def test_a_row_asks_for_what_it_measured() -> None:
    host = engine_host("sglang")
    first = EngineRow({**TOLD, "ttft_ms": 1.0}, STEPS)
    assert first.predicted(host) == STEPS.first_token_ms(host)
    offline = replace(first, told={**first.told, "offline": True})
    assert (first.predicted(host) - offline.predicted(host)) * 1e6 == pytest.approx(host.request_ns)
    rate = EngineRow({**TOLD, "tokens_per_second": 1.0}, STEPS)
    assert rate.predicted(host) == STEPS.tokens_per_second(host)
    crowded = replace(STEPS, load=RequestLoad(8, 1024, 100))
    median, mean = (
        EngineRow({**TOLD, "tpot_ms": 1.0, "mean": told}, crowded).predicted(host) for told in (False, True)
    )
    assert (median, mean) == (crowded.token_ms(host, mean=False), crowded.token_ms(host))
    assert median < mean


def test_a_row_is_refused_only_where_others_prompts_stand_between() -> None:
    """Went wrong once: single long requests and stacks that only make tokens were refused with the crowded ones."""
    told = {**TOLD, "tpot_ms": 1.0, "output": 100, "batch": 4}
    steps = replace(STEPS, step_ns=1_000_000, single_ns=1_000_000, prompt_ns=10**9, group_ns=10**9)

    def row(told: Mapping[str, Any]) -> EngineRow:
        load = RequestLoad(told["batch"], told["prompt"], told["output"])
        return EngineRow(told, replace(steps, load=load))

    assert "how many are made at once" in row(told).why
    for changed in ({"batch": 1}, {"engine": "captured"}, {"decodes_alone": True}, {"mean": True}):
        assert not row({**told, **changed}).why
