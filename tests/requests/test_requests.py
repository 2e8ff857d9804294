"""A request is one thing for the command line, the window's form and the text of a command."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from memplan.cli import main
from memplan.cli.reporting import reporting
from memplan.core.errors import InputError
from memplan.core.options import options_of, words
from memplan.models.parallel import Layout
from memplan.models.training.recipe_choices import Schedule, Sharding
from memplan.models.training.step_recipe import Recipe, option_of
from memplan.reports.report import Report
from memplan.requests.kv_request import KvRequest, ServingRequest
from memplan.requests.layout_request import LayoutRequest
from memplan.requests.recipe_request import RecipeRequest
from memplan.requests.step_request import StepRequest

SIZES = st.sampled_from([None, "4GiB", "64 GiB", "1024"])
COUNTS = st.one_of(st.none(), st.integers(1, 4096))
REQUESTS = st.builds(
    KvRequest,
    config=st.sampled_from([Path("config.json"), Path("a model's/config.json")]),
    chip=st.sampled_from(["910B3", "910C"]),
    engine=st.sampled_from(["vllm-ascend", "logical"]),
    tp=st.integers(1, 64), pp=st.integers(1, 8), dp=st.integers(1, 8), ep=st.integers(1, 8), cp=st.integers(1, 8),
    context=COUNTS, batch=COUNTS, block_size=COUNTS, batched_tokens=COUNTS, step_sequences=COUNTS,
    asynchronous=st.sampled_from([None, True, False]), kv_dtype=st.sampled_from([None, "int8"]),
    draft_tokens=st.integers(0, 3),    index_c8=st.booleans(), weights=st.sampled_from(["published", "w8a8"]),
    utilization=st.sampled_from([None, 0.85]), hbm=SIZES, activations=SIZES, graphs=SIZES, hccl_buffer_mb=COUNTS,
    host_memory=SIZES, pooled_memory=SIZES, effects=st.booleans(),
)  # fmt: skip


def parsed(request: Any, line: list[str]) -> Any:
    """What a command whose only parameter is a request gets of the words of a command line."""
    taken: list[Any] = []

    def command(asked: Any) -> Report:
        taken.append(asked)
        return Report("taken")

    command.__annotations__ = {"asked": request, "return": Report}
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(reporting(command))
    app(args=line, standalone_mode=False)
    return taken[0]


@settings(max_examples=50)
@given(REQUESTS)
def test_what_is_printed_is_read_back_as_the_same_request(request: KvRequest) -> None:
    line = shlex.split(request.command_line)
    assert line[:2] == ["memplan", "kv"]
    assert parsed(KvRequest, line[2:]) == request


def test_only_what_is_not_as_by_default_is_printed() -> None:
    assert words(KvRequest(Path("c.json"), tp=4, effects=True)) == [
        "c.json", "--chip", "910B3", "--engine", "vllm-ascend", "--tp", "4", "--effects",
    ]  # fmt: skip
    assert words(LayoutRequest()) == []


@pytest.mark.parametrize("request_type", [LayoutRequest, RecipeRequest, StepRequest, ServingRequest, KvRequest])
def test_every_flag_is_given_once_and_explained(request_type: Any) -> None:
    flags = [flag for _, spec in options_of(request_type) for flag in spec.flags]
    assert len(flags) == len(set(flags))
    assert all(spec.help.endswith(".") for _, spec in options_of(request_type))


def test_refusals_name_words_of_a_recipe_by_their_options() -> None:
    flags = {flag for _, spec in options_of(RecipeRequest) for flag in spec.flags}
    # What is fused in the framework follows from how targets are named.
    elsewhere = {"sequence", "micro_batches", "sequence_parallel", "lora_fused"}
    assert {option_of(item.name) for item in fields(Recipe) if item.name not in elsewhere} <= flags


def test_the_same_layout_options_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("kv", "step", "train-memory"):
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(flag in shown for flag in ("--tp", "--pp", "--dp", "--ep", "--cp")), command
    for command in ("fit", "train-memory"):
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert all(flag in shown for flag in ("--micro-batch", "--sharding", "--schedule")), command


def test_requests_become_what_is_planned() -> None:
    assert LayoutRequest(tp=2, pp=3, dp=4, ep=8, cp=5).layout == Layout(2, 3, 4, 8, 5)
    asked = RecipeRequest(micro_batch=2, global_batch=16, sharding="zero1", schedule="gpipe", recompute_layers=3)
    assert asked.micro_batches_of(4) == 2
    assert asked.recipe(4096, 2) == Recipe(
        4096, 2, 2, sharding=Sharding.ZERO1, schedule=Schedule.GPIPE, recompute_layers=3
    )
    assert RecipeRequest(micro_batch=3).micro_batches_of(4) == 1
    assert StepRequest(phase="prefill").step(4).batch == 4


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: RecipeRequest(sharding="zero9").recipe(1), "no sharding is called 'zero9'"),
        (lambda: RecipeRequest(schedule="x").recipe(1), "1f1b"),
        (lambda: RecipeRequest(micro_batch=3, global_batch=8).micro_batches_of(2), "8 samples a step"),
        (lambda: StepRequest(phase="train").step(1), "--phase 'train' is not known"),
        (lambda: KvRequest(Path("c"), host_memory="lots").memories, "'lots' is not a size"),
    ],
)
def test_what_no_request_can_be_is_said(ask: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        ask()


def test_one_option_answers_two_requests_that_ask_the_same() -> None:
    taken: list[Any] = []

    def command(step: StepRequest, recipe: RecipeRequest) -> Report:
        taken.append((step.sequence_parallel, recipe.sequence_parallel, recipe.micro_batch))
        return Report("taken")

    command.__annotations__ = {"step": StepRequest, "recipe": RecipeRequest, "return": Report}
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(reporting(command))
    app(args=["--sp", "--micro-batch", "2"], standalone_mode=False)
    assert taken == [(True, True, 2)]


def test_two_options_of_one_name_are_a_mistake() -> None:
    def command(serving: ServingRequest, step: StepRequest) -> Report:
        return Report(str(serving) + str(step))

    command.__annotations__ = {"serving": ServingRequest, "step": StepRequest, "return": Report}
    with pytest.raises(TypeError, match="two different options are called context"):
        reporting(command)
