"""What an engine lets run at once: whose planner says it for a release, and windows that prompts alone fill."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memplan.deployment.cases import Case
from memplan.deployment.load_limits import planner_of
from memplan.deployment.service_goal import even_workload
from memplan.deployment.service_settings import ServiceSetting, instance_room, setting_case
from memplan.engines import step_mode
from memplan.hardware import chip
from memplan.kv import Memory, ServingOptions, engine
from memplan.models import load_config
from memplan.models.parallel import Layout

_FAMILIES = json.loads((Path(__file__).parents[1] / "models" / "families.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("server", "die", "planner"),
    [
        ("v0.7.3", "910C", "vllm-ascend-0.12.0-a3"),
        ("v0.12.0rc1", "910B3", "vllm-ascend-0.12.0-a2"),
        ("v0.18.0", "910C", "vllm-ascend-0.12.0-a3"),
        ("v0.18.0", "950PR_9599", "vllm-ascend-0.23.0.post1-a5"),  # the first one that is known for it
        ("v0.23.0", "910C", "vllm-ascend-0.23.0.post1-a3"),
        ("v0.29.0rc1", "910C", "vllm-ascend-0.23.0.post1-a3"),
        ("v0.30.0rc1", "910C", "vllm-ascend-0.30.0rc2-a3"),
        ("vllm-ascend-full", "910C", engine("vllm-ascend", chip("910C")).name),
        ("sglang-0.5.3", "910C", "sglang-0.5.23-npu"),
        ("mindie-2.1.RC1", "910C", "mindie-atb"),
        ("xllm", "910C", None),
        ("captured", "910C", None),
    ],
)
def test_a_release_is_limited_by_the_nearest_planner(server: str, die: str, planner: str | None) -> None:
    """Went wrong once: releases without a planner of their own had the usual one's, be they older or newer."""
    found = planner_of(step_mode(server), chip(die))
    assert (None if found is None else found.name) == planner


@pytest.mark.parametrize("tokens", [2048, 16384])
def test_windows_hold_a_steps_tokens_once_and_not_for_every_sequence(tokens: int) -> None:
    """Went wrong once: every sequence under way was counted with the window of a prompt that is being read."""
    die = chip("910C")
    model = load_config(_FAMILIES["gemma4_text"]["config"])
    case = Case(model, die, engine("vllm-ascend", die), ServingOptions(32768), Layout(), Memory())
    load, setting = even_workload(1.0, 30000, 1000), ServiceSetting(Layout(), 0, None, "bf16", tokens)
    reads = setting_case(case, setting, load.longest).budget()
    makes = setting_case(case, replace(setting, batched_tokens=1), load.longest).budget()
    assert 0 < makes.fixed_bytes_per_request < reads.fixed_bytes_per_request
    room = instance_room(case, setting, load)
    mean = makes.fixed_bytes_per_request + makes.bytes_per_token * 30500
    once = reads.fixed_bytes_per_request - makes.fixed_bytes_per_request
    assert room.sequences * mean + once == pytest.approx(reads.available_bytes)
