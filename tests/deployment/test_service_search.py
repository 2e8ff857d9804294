"""The fewest dies for a goal: none fewer do, more asked never takes fewer, and every layout left out has its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memplan.core.errors import InputError
from memplan.deployment.cases import Case
from memplan.deployment.service_goal import ServiceGoal, even_workload, traffic_workload
from memplan.deployment.service_model import mixed_service, prompt_reading
from memplan.deployment.service_options import APART, MIXED, ServiceAsk, ServiceSearch
from memplan.deployment.service_search import search_service
from memplan.deployment.service_settings import instance_layouts
from memplan.deployment.step_curve import StepCurve
from memplan.hardware import chip
from memplan.kv import Memory, ServingOptions, engine
from memplan.models import load_config
from memplan.models.parallel import ONE_RANK
from memplan.models.steps import Phase, ServedStep
from memplan.traffic import Arrival, prefix_hits

CONFIG = {
    "model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936,
    "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": False,
    "attention_bias": False,
}  # fmt: skip


def ask(rate: float = 8.0, *, tpot_ms: float = 60, ttft_ms: float = 2000, most: int = 64) -> ServiceAsk:
    die = chip("910C")
    case = Case(load_config(CONFIG), die, engine("vllm-ascend", die), ServingOptions(40960), ONE_RANK, Memory())
    goal = ServiceGoal(round(ttft_ms * 1e6), round(tpot_ms * 1e6))
    return ServiceAsk(case, goal, even_workload(rate, 2000, 500), most, chunks=(2048,))


@pytest.fixture(scope="module")
def usual() -> ServiceSearch:
    """What is found for eight requests a second, and its front."""
    return search_service(ask(), pareto=True)


def test_one_instance_fewer_misses_the_goal(usual: ServiceSearch) -> None:
    asked, found = ask(), usual
    assert found.best is not None
    assert [item.dies for item in found.options] == sorted(item.dies for item in found.options)
    for item in found.options:
        assert item.ttft_ns <= 2e9
        assert item.tpot_ns <= 60e6
        assert item.dies == sum(pool.dies for pool in item.pools) <= 64
        assert item.sure is None or item.sure >= item.dies
        assert all(pool.service.sequences <= pool.room.sequences for pool in item.pools)
    mixed = next(item for item in found.options if item.mode == MIXED and item.pools[0].instances > 1)
    pool = mixed.pools[0]
    step = ServedStep(Phase.DECODE, 1, 2250, kv=pool.setting.step_kv)
    curve = StepCurve(asked.case.model, pool.setting.layout, asked.case.chip, "vllm-ascend", step, None)
    read = prompt_reading(curve, asked.load, pool.setting.batched_tokens, 0.9)
    less = mixed_service(curve, asked.load, pool.instances - 1, read, room=pool.room.sequences, part=0.9)
    assert less.ttft_ns > 2e9 or less.tpot_ns > 60e6 or less.sequences > pool.room.sequences


def test_more_requests_never_take_fewer_dies() -> None:
    dies = []
    for rate in (2.0, 8.0, 24.0):
        best = search_service(ask(rate)).best
        assert best is not None
        dies.append(best.dies)
    assert dies == sorted(dies)
    assert dies[0] < dies[-1]


def test_every_layout_is_served_or_has_its_reason(usual: ServiceSearch) -> None:
    asked, found = ask(), usual
    said = {item.setting.layout for item in found.rejected}
    said |= {pool.setting.layout for item in found.options for pool in item.pools}
    assert said >= set(instance_layouts(asked.case.model, 8))
    assert all(str(item.why) for item in found.rejected)


def test_what_no_number_of_dies_can_do_is_said() -> None:
    slow = search_service(ask(tpot_ms=5))
    assert slow.best is None
    assert any("a token even with one sequence" in str(item.why) for item in slow.rejected)
    near = [item for most in (8, 10, 12, 14, 16) for item in search_service(ask(tpot_ms=most)).rejected]
    assert any("as quick as the interval allows" in str(item.why) for item in near)
    late = search_service(ask(ttft_ms=20))
    assert late.best is None
    assert any("reading a prompt alone takes" in str(item.why) for item in late.rejected)
    few = search_service(ask(500.0, most=4))
    assert few.best is None


def test_caches_that_do_not_fit_are_said_in_bytes() -> None:
    asked = ask(40.0, tpot_ms=100_000, ttft_ms=100_000, most=8)
    small = replace(asked, case=replace(asked.case, memory=Memory(hbm=26 * 2**30)))
    found = search_service(small)
    assert any("missing for" in str(item.why) for item in found.rejected)


def test_a_verdict_carries_the_step_models_error(usual: ServiceSearch) -> None:
    found = usual
    for item in found.options:
        # Slower steps have more sequences in them at once, so the bounds are wider than the step's own.
        assert item.tpot_bounds[0] <= found.interval[0] * item.tpot_ns * 1.001
        assert item.tpot_bounds[1] >= found.interval[1] * item.tpot_ns * 0.999
        assert (str(item.verdict) == "meets") == (item.sure == item.dies)
        if str(item.verdict) == "meets":
            assert item.tpot_bounds[1] <= 60e6


def test_no_point_of_the_front_is_beaten(usual: ServiceSearch) -> None:
    front = usual.front
    for mode in (MIXED, APART):
        points = [item for item in front if item.mode == mode]
        assert len(points) > 3
        assert [item.tpot_ns for item in points] == sorted(item.tpot_ns for item in points)
        rates = [item.tokens_per_second_per_die for item in points]
        assert rates == sorted(rates)


def test_traffic_keeps_its_means() -> None:
    arrivals = [Arrival(number * 10**8, 64 * (number % 50 + 1), 100, ()) for number in range(1000)]
    load = traffic_workload(prefix_hits(arrivals, []), None)
    assert load.rate == pytest.approx(10.0)
    assert load.mean(float) == pytest.approx(load.prompt, rel=0.01)
    assert len(load.computed) <= 33
    with pytest.raises(InputError, match="arrive at once"):
        traffic_workload(prefix_hits(arrivals[:1], []), None)
