"""The long run of a service by formula, against an engine simulated step by step."""

from __future__ import annotations

from math import inf

import pytest

from memplan.deployment.service_goal import Workload
from memplan.deployment.service_model import mixed_service, most_rate, prompt_reading
from memplan.deployment.step_curve import StepCurve
from memplan.hardware import chip
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.serving.closed_loop import ClosedLoop
from memplan.serving.fast_step import StepPoint
from tests.deployment.engine_simulation import SimulatedService, simulate

MODEL = load_config(
    {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1,
        "num_key_value_heads": 1, "intermediate_size": 64, "vocab_size": 64, "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
    }
)  # fmt: skip


def linear_curve(asked: SimulatedService) -> StepCurve:
    """Steps that last as long as the simulated ones."""
    ranks = asked.ranks if asked.locked else 1
    layout = Layout(data=ranks, expert=ranks)
    curve = StepCurve(MODEL, layout, chip("910C"), "captured", ServedStep(Phase.DECODE, 1, 64), None)
    for power in range(21):
        number = 2**power
        decode, read = (asked.base + asked.each * number) * 1e6, asked.token * number * 1e6
        curve.decode[number] = StepPoint(decode, decode, 0.0, 1.0)
        taken = max(read, asked.launched * 1e6)
        curve.prefill[number] = StepPoint(taken, taken, taken - read, 1.0, asked.launched * 1e6)
    return curve


def workload(asked: SimulatedService) -> Workload:
    counts = {tokens: asked.prompts.count(tokens) for tokens in asked.prompts}
    mean = sum(asked.prompts) / len(asked.prompts)
    return Workload(asked.rate, mean, asked.answer, counts, max(asked.prompts) + asked.answer)


CASES = [
    SimulatedService(2.0, (256,), 200, 2048, launched=60.0),
    SimulatedService(12.0, (128,), 200, 2048, launched=80.0),
    SimulatedService(8.0, (1024,), 300, 2048, groups=2, launched=120.0),
    SimulatedService(12.0, (256,), 200, 2048, ranks=4, locked=True, launched=60.0),
    SimulatedService(2.0, (1024,), 200, 2048),
    SimulatedService(4.0, (1024,), 200, 2048),
    SimulatedService(4.0, (4096,), 300, 2048, groups=4),
    SimulatedService(8.0, (2048,), 300, 8192, groups=8),
    SimulatedService(8.0, (512, 512, 512, 8192), 300, 2048, groups=4),
    SimulatedService(6.0, (2048,), 200, 2048, ranks=4, locked=True),
    SimulatedService(10.0, (4096,), 200, 2048, ranks=8, locked=True),
    SimulatedService(20.0, (512,), 200, 2048, ranks=8, locked=True),
]


@pytest.mark.parametrize("asked", CASES, ids=str)
def test_formulas_say_what_a_simulated_engine_does(asked: SimulatedService) -> None:
    first, each, at_once = simulate(asked, 1500)
    curve, load = linear_curve(asked), workload(asked)
    for part in (0.5, 0.9):
        read = prompt_reading(curve, load, asked.chunk, part)
        found = mixed_service(curve, load, asked.groups, read, room=200, part=part)
        assert found.ttft_ns / 1e6 == pytest.approx(first[int(part * len(first))], rel=0.22)
        assert found.tpot_ns / 1e6 == pytest.approx(each[int(part * len(each))], rel=0.15)
        if part == 0.5:
            assert found.sequences == pytest.approx(at_once, rel=0.15)


def test_what_the_engine_can_not_keep_up_with_is_said() -> None:
    asked = SimulatedService(8.0, (4096,), 300, 2048)  # reading takes 8 x 0.33 s of every second
    curve, load = linear_curve(asked), workload(asked)
    found = mixed_service(curve, load, 1, prompt_reading(curve, load, 2048, 0.9), room=200, part=0.9)
    assert found.why


@pytest.mark.parametrize("asked", [CASES[1], CASES[6]], ids=str)
def test_the_rate_of_so_many_sequences_leads_back_to_them(asked: SimulatedService) -> None:
    curve, load = linear_curve(asked), workload(asked)
    read = prompt_reading(curve, load, asked.chunk, 0.5)
    rate, token = most_rate(curve, load, 24, read)
    again = Workload(rate, load.prompt, load.answer, load.computed, load.longest)
    found = mixed_service(curve, again, 1, read, room=200, part=0.5)
    assert found.sequences == pytest.approx(24, rel=0.02)
    assert found.tpot_ns == pytest.approx(token, rel=0.02)


@pytest.mark.parametrize("sequences", [4, 24, 64])
@pytest.mark.parametrize("asked", [item for item in CASES if not item.locked], ids=str)
def test_requests_at_random_and_in_a_loop_without_end_are_answered_alike(
    asked: SimulatedService, sequences: int
) -> None:
    """The limit that both have: a rank that is never short of requests, each read beside the tokens of the others."""
    curve, load = linear_curve(asked), workload(asked)
    read = prompt_reading(curve, load, asked.chunk, 0.5)
    step = curve.decoding(sequences).duration_ns
    mixed = step + read.chunk_ns(step)
    loop = ClosedLoop(sequences, 1, read.chunks, inf, load.answer, step / 1e6, 0.0, mixed / 1e6)
    rate, token = most_rate(curve, load, sequences, read)
    # At random some come in the same step, which launches their kernels once.
    within = 0.05 if asked.launched else 0.001
    assert rate == pytest.approx(sequences / loop.wave() * 1e3, rel=within)
    # By so much the own prompt lengthens no token of its answer.
    own = read.chunks * (loop.mixed - loop.step) / load.answer
    assert token / 1e6 == pytest.approx(loop.step + loop.among() / load.answer + own, rel=within)
