"""A plan like a profile: what ran is found out from simulated runs of many layouts, and from a measured one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import memplan
from memplan.cli import main
from memplan.core.errors import InputError
from memplan.core.units import MIB
from memplan.likeness import like_profile
from memplan.likeness.kernel_kinds import KernelKind, KernelSteps
from memplan.likeness.layer_passes import layer_passes
from memplan.likeness.training_shapes import head_columns
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import Layout
from memplan.models.steps import Phase, ServedStep
from memplan.models.training.recipe_choices import Schedule, Sharding
from memplan.models.training.step_recipe import Recipe
from memplan.schema import Certainty, Tier
from memplan.simulator import simulate
from memplan.traces.operand_shapes import operand_shapes

SMALL, SPARSE, DENSE = "Qwen--Qwen3-0.6B", "Qwen--Qwen3-30B-A3B", "meta-llama--Meta-Llama-3.1-8B"
LATENT, LATENT_SERVED = "deepseek-ai--DeepSeek-V3", "deepseek-ai--DeepSeek-R1"

TRAINED = [
    (SMALL, 8, Layout(tensor=2, data=2), Recipe(512, 2, 3), 0, 1, "910B3"),
    (SMALL, 12, Layout(pipeline=4), Recipe(512, 1, 6), 2, 0, "910B4"),
    (SMALL, 12, Layout(pipeline=4, data=4), Recipe(1024, 1, 6), 1, 3, "910B1"),
    (SMALL, 8, Layout(tensor=4, pipeline=2), Recipe(512, 4, 4, sequence_parallel=True, recompute_layers=4), 1, 0,
     "910B2"),
    (SMALL, 12, Layout(pipeline=3, data=2, stage_layers=(3, 5, 4)), Recipe(512, 1, 4), 1, 1, "910B4"),
    (SMALL, 8, Layout(pipeline=2), Recipe(512, 1, 6, schedule=Schedule.GPIPE), 0, 0, "910B3"),
    (DENSE, 4, Layout(data=2, context=2, tensor=2), Recipe(2048, 1, 2), 0, 0, "910B3"),
    (DENSE, 4, Layout(data=4), Recipe(1024, 2, 1, recompute_cheap=True), 0, 0, "910B3"),
    (SPARSE, 4, Layout(data=8, expert=8, tensor=2), Recipe(1024, 1, 2), 0, 0, "910B1"),
    (LATENT, 6, Layout(data=4, expert=8, tensor=4, pipeline=2), Recipe(1024, 1, 4, recompute_layers=2), 1, 0, "910B1"),
    (SMALL, 12, Layout(pipeline=2, data=2), Recipe(512, 1, 4, schedule=Schedule.INTERLEAVED, chunks=3), 0, 1, "910B3"),
    (SMALL, 8, Layout(pipeline=2), Recipe(512, 1, 6, schedule=Schedule.INTERLEAVED, chunks=2), 1, 0, "910B3"),
    (SMALL, 8, Layout(pipeline=2, data=2), Recipe(512, 1, 3, recompute_attention=True), 1, 0, "910B3"),
]  # fmt: skip
SERVED = [
    (SMALL, 28, Layout(tensor=2), ServedStep(Phase.DECODE, 16, 2048), "910B3"),
    (SMALL, 28, Layout(tensor=4), ServedStep(Phase.PREFILL, 4, 2048), "910B4"),
    (SPARSE, 4, Layout(data=8, expert=8), ServedStep(Phase.DECODE, 256, 4096), "910B1"),
    (LATENT_SERVED, 5, Layout(tensor=8, data=2, expert=16), ServedStep(Phase.DECODE, 64, 8192, precision="w8a8"),
     "910B1"),
    ("openai--gpt-oss-120b", 2, Layout(tensor=4), ServedStep(Phase.DECODE, 16, 4096, precision="bf16"), "910B1"),
    ("openai--gpt-oss-120b", 2, Layout(tensor=4), ServedStep(Phase.DECODE, 16, 4096), "910B1"),
    ("zai-org--GLM-5.2", 4, Layout(tensor=16), ServedStep(Phase.PREFILL, 2, 2048, precision="w8a8"), "910B1"),
]  # fmt: skip


def cut(folder: Path, name: str, layers: int) -> ModelConfig:
    model = load_config(folder / "configs" / f"{name}.json")
    return replace(model, layers=model.layers[:layers])


def run(model: ModelConfig, folder: Path, rank: int = 0, **asked: Any) -> Path:
    """A simulated profile of a step, noise and all."""
    plan = memplan.plan(model, **asked)
    return simulate(plan, folder / "run_ascend_pt", rank=rank, steps=2)


def wrong(values: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (values.get(name), value) for name, value in expected.items() if values.get(name) != value}


@pytest.mark.parametrize(("name", "layers", "layout", "recipe", "stage", "data_rank", "chip"), TRAINED)
def test_a_training_step_is_told_by_its_kernels_alone(
    shared_data: Path, tmp_path: Path, name: str, layers: int, layout: Layout, recipe: Recipe, stage: int,
    data_rank: int, chip: str,
) -> None:  # fmt: skip
    """No metadata: shapes, counts and order of kernels, and the rank's number."""
    model = cut(shared_data, name, layers)
    rank = (stage * layout.data + data_rank) * layout.context * layout.tensor
    asked = {"chip": chip, "layout": layout, "recipe": recipe, "stage": stage, "data_rank": data_rank}
    profile = memplan.open_profile(run(model, tmp_path, rank, **asked))
    found = like_profile(model, profile)
    told = ",".join(str(count) if place == stage else "" for place, count in enumerate(layout.stage_layers))
    expected = {
        "phase": "train", "tp": layout.tensor, "pp": layout.pipeline, "dp": layout.data, "cp": layout.context,
        "ep": layout.expert, "stage": stage, "data_rank": data_rank, "context": recipe.sequence,
        "micro_batch": recipe.micro_batch, "micro_batches": recipe.micro_batches, "sharding": recipe.sharding.value,
        "schedule": recipe.schedule.value, "sequence_parallel": recipe.sequence_parallel,
        "recompute_layers": recipe.recompute_layers, "recompute_cheap": recipe.recompute_cheap,
        "precision": "bf16", "chip": f"Ascend{chip}", "stage_layers": told or None,
        "chunks": recipe.chunks if recipe.chunks > 1 else None,
        "recompute_attention": recipe.recompute_attention or None,
    }  # fmt: skip
    assert not wrong(found.values, expected)
    assert not found.contradictions


WINDOWS = [(0.03, 1.0), (0.3, 1.0), (0.0, 0.6), (0.15, 0.75)]


def cut_steps(folder: Path) -> Iterator[Path]:
    """The profile `folder` holding only kernels of its first step, from one share of them to another."""
    table = next(folder.rglob("kernel_details.csv"))
    head, *rows = table.read_text(encoding="utf-8").splitlines()
    step = rows[: len(rows) // 2]
    for path in table.parent.iterdir():
        path.unlink()
    for begin, end in WINDOWS:
        table.write_text(
            "\n".join([head, *step[int(begin * len(step)) : int(end * len(step))]]) + "\n", encoding="utf-8"
        )
        yield folder


@pytest.mark.parametrize("case", [TRAINED[0], TRAINED[3]])
def test_part_of_a_step_tells_it_too(shared_data: Path, tmp_path: Path, case: tuple[Any, ...]) -> None:
    """The profiler was started or stopped in the middle of a step: micro-batches it doesn't hold are not counted."""
    name, layers, layout, recipe, stage, data_rank, chip = case
    model = cut(shared_data, name, layers)
    rank = (stage * layout.data + data_rank) * layout.context * layout.tensor
    asked = {"chip": chip, "layout": layout, "recipe": recipe, "stage": stage, "data_rank": data_rank}
    for folder in cut_steps(run(model, tmp_path, rank, **asked)):
        found = like_profile(model, memplan.open_profile(folder))
        expected = {
            "phase": "train", "tp": layout.tensor, "pp": layout.pipeline, "cp": layout.context, "ep": layout.expert,
            "stage": stage, "context": recipe.sequence, "micro_batch": recipe.micro_batch,
            "sequence_parallel": recipe.sequence_parallel, "recompute_layers": recipe.recompute_layers,
            "recompute_cheap": recipe.recompute_cheap,
        }  # fmt: skip
        assert not wrong(found.values, expected)
        assert recipe.micro_batches - 1 <= found.values["micro_batches"] <= recipe.micro_batches


def test_a_profile_without_shapes_is_told_by_names_counts_and_time(shared_data: Path, tmp_path: Path) -> None:
    """The lowest level of profiling: names, times and cores used; metadata tells the layout."""
    model = cut(shared_data, SMALL, 8)
    layout, recipe = Layout(pipeline=2, data=2), Recipe(2048, 1, 3)
    folder = run(model, tmp_path, 0, chip="910B4", layout=layout, recipe=recipe)
    table = next(folder.rglob("kernel_details.csv"))
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [
        "Step Id",
        "Name",
        "Type",
        "Accelerator Core",
        "Start Time(us)",
        "Duration(us)",
        "Wait Time(us)",
        "Block Dim",
    ]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [name for name in kept if name in rows[0]], extrasaction="ignore")
        writer.writeheader()
        for row in rows:
            planned = {
                "Name": f"aclnn{row['Type']}_{row['Type']}_{row['Type']}",
                "Type": "N/A",
                "Accelerator Core": "N/A",
            }
            writer.writerow(row if row["Type"].startswith("hcom") else {**row, **planned})
    sizes = {
        "pipeline_model_parallel_size": 2,
        "data_parallel_size": 2,
        "tensor_model_parallel_size": 1,
        "world_size": 4,
    }
    (folder / "profiler_metadata.json").write_text(json.dumps({"distributed_args": sizes}), encoding="utf-8")
    found = like_profile(model, memplan.open_profile(folder))
    expected = {
        "phase": "train", "tp": 1, "pp": 2, "dp": 2, "stage": 0, "context": 2048, "micro_batch": 1, "micro_batches": 3,
        "recompute_layers": 0, "schedule": "1f1b",
    }  # fmt: skip
    assert not wrong(found.values, expected)
    sure = {item.name: item.certainty for item in found.settings}
    assert sure["sequence"] is Certainty.LIKELY
    assert sure["micro-batch"] is Certainty.ASSUMED
    given = like_profile(model, memplan.open_profile(folder), given={"context": 512})
    assert given.values["context"] == 512


@pytest.mark.parametrize(
    ("order", "layers", "forward", "backward", "ahead", "cut"),
    [
        ("eFFFhHBBBEeFFFhHBBBE", 3, 2, 2, 1, False),
        ("eFFFpeFFFppBBBEpBBBE", 3, 2, 2, 2, False),
        ("FpeFFFppBBBEpBBBE", 3, 2, 2, None, True),
        ("eFFFpeFFFppBBBEpB", 3, 2, 2, 2, True),
        ("pFFFhHFBFBFBppFFFhHFBFB", 3, 2, 2, 1, True),
        ("pFFFFppFFFFpBBFBFBppFFFFppBBFBFB", 4, 3, 2, 2, True),
        ("BBEeFFFFhHBBBBE", 4, 1, 2, None, True),
    ],
)
def test_passes_through_layers_are_read_off_the_order_of_attentions(
    order: str, layers: int, forward: int, backward: int, ahead: int | None, cut: bool
) -> None:
    found = layer_passes(order)
    assert found is not None
    assert (found.layers, found.forward, found.backward, found.ahead, found.cut) == (
        layers, forward, backward, ahead, cut,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "layers", "layout", "step", "chip"), SERVED)
def test_a_served_step_is_told_by_its_kernels_alone(
    shared_data: Path, tmp_path: Path, name: str, layers: int, layout: Layout, step: ServedStep, chip: str
) -> None:
    model = cut(shared_data, name, layers)
    found = like_profile(model, memplan.open_profile(run(model, tmp_path, chip=chip, layout=layout, recipe=step)))
    expected = {
        "phase": step.phase.value, "tp": layout.tensor, "dp": layout.data, "ep": layout.expert, "batch": step.batch,
        "weights": step.precision, "chip": f"Ascend{chip}",
    }  # fmt: skip
    assert not wrong(found.values, expected)
    # Cached tokens leave no shape: the time of attention tells them, as well as the run keeps to the prediction.
    assert found.values["context"] == pytest.approx(step.context, rel=0.3)


@pytest.mark.parametrize("sampled", [11, 1])
def test_rows_that_pad_a_decode_step_make_no_prefill(shared_data: Path, tmp_path: Path, sampled: int) -> None:
    """Of 16 rows few are sampled; where that is one in sixteen, the cache tells that no more tokens were there."""
    model = cut(shared_data, SMALL, 28)
    folder = run(model, tmp_path, chip="910B3", layout=Layout(tensor=2), recipe=ServedStep(Phase.DECODE, 16, 2048))
    table = folder / "ASCEND_PROFILER_OUTPUT" / "kernel_details.csv"
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if str(model.vocab_size // 2) in row["Input Shapes"]:
            row["Input Shapes"] = row["Input Shapes"].replace("16,", f"{sampled},", 1)
            row["Output Shapes"] = row["Output Shapes"].replace("16,", f"{sampled},", 1)
        if "ReshapeAndCache" in row["Type"]:
            row["Input Shapes"] = f'"{sampled},4,128;{sampled},4,128;512,128,4,128;512,128,4,128;{sampled}"'
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = like_profile(model, memplan.open_profile(folder))
    assert not wrong(found.values, {"phase": "decode", "tp": 2, "batch": sampled})
    told = next(each.evidence for each in found.settings if each.name == "phase")
    assert "padding" in told


def test_a_layer_s_product_is_no_share_of_the_vocabulary(shared_data: Path) -> None:
    """A shared expert of DeepSeek-V3 is 4,096 wide, a 32nd of its vocabulary with little padding."""
    model = load_config(shared_data / "configs" / f"{LATENT}.json")
    width, head, expert = model.hidden_size, model.vocab_size // 8, 4096

    def product(columns: int) -> KernelKind:
        return KernelKind("MatMulV2", ("product",), ((8, width), (columns, width)), ((8, columns),), ("DT_BF16",) * 2)

    def columns(*kinds: KernelKind) -> frozenset[int]:
        places = np.arange(len(kinds), dtype=np.int64)
        return head_columns(model, KernelSteps(kinds, places, places, 1))

    assert columns(product(expert)) == {expert}
    assert columns(product(expert), product(head), product(width)) == {head}
    assert columns(product(width)) == frozenset()


@pytest.mark.parametrize("sampled", [11, 16])
def test_a_share_of_the_tokens_that_norms_see_is_sequence_parallel(
    shared_data: Path, tmp_path: Path, sampled: int
) -> None:
    """The last of the ranks may have padding."""
    model = cut(shared_data, SMALL, 28)
    folder = run(model, tmp_path, chip="910B3", layout=Layout(tensor=2), recipe=ServedStep(Phase.DECODE, 8, 2048))
    table = folder / "ASCEND_PROFILER_OUTPUT" / "kernel_details.csv"
    text = table.read_text("utf-8")
    head = str(model.vocab_size // 2)
    table.write_text(
        text.replace(f"8,{model.hidden_size};{head}", f"{sampled},{model.hidden_size};{head}").replace(
            f"8,{head}", f"{sampled},{head}"
        ),
        "utf-8",
    )
    found = like_profile(model, memplan.open_profile(folder))
    assert not wrong(found.values, {"phase": "decode", "tp": 2, "sequence_parallel": True, "batch": sampled})


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("name", [SMALL, "deepseek-ai--DeepSeek-V3", "mistralai--Mixtral-8x7B-v0.1"])
def test_a_prompt_is_spread_where_products_see_more_of_it_than_norms(
    shared_data: Path, tmp_path: Path, name: str, spread: bool
) -> None:
    model = cut(shared_data, name, 4)
    layout = Layout(tensor=2) if model.experts is None or name.startswith("mistral") else Layout(tensor=2, expert=2)
    recipe = ServedStep(Phase.PREFILL, 2, 1024, sequence_parallel=spread)
    found = like_profile(model, memplan.open_profile(run(model, tmp_path, chip="910B3", layout=layout, recipe=recipe)))
    assert not wrong(found.values, {"phase": "prefill", "tp": 2, "sequence_parallel": spread, "batch": 2})


@pytest.mark.parametrize("whole", [False, True])
def test_products_tell_whether_shared_experts_are_whole(shared_data: Path, tmp_path: Path, whole: bool) -> None:
    model = cut(shared_data, "deepseek-ai--DeepSeek-V3", 5)
    recipe = ServedStep(Phase.DECODE, 64, 2048, whole_shared=whole)
    folder = run(model, tmp_path, chip="910B3", layout=Layout(tensor=4, data=2, expert=8), recipe=recipe)
    found = like_profile(model, memplan.open_profile(folder))
    assert not wrong(found.values, {"phase": "decode", "tp": 4, "ep": 8, "whole_shared": whole})


def test_metadata_is_told_and_given_options_win(shared_data: Path, tmp_path: Path) -> None:
    model = cut(shared_data, SMALL, 4)
    layout, recipe = Layout(tensor=2, data=2), Recipe(512, 1, 2, sharding=Sharding.NONE)
    folder = run(model, tmp_path, 3, chip="910B3", layout=layout, recipe=recipe, data_rank=1)
    groups = {"a": {"group_name": "dp_cp", "group_rank": 1, "global_ranks": [1, 3]}}
    sizes = {"tensor_model_parallel_size": 2, "data_parallel_size": 2, "world_size": 4}
    metadata = {"memplan_simulated": True, "distributed_args": sizes, "parallel_group_info": groups}
    (folder / "profiler_metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    found = like_profile(model, memplan.open_profile(folder))
    assert not wrong(found.values, {"tp": 2, "dp": 2, "pp": 1, "data_rank": 1, "sharding": "none"})
    sure = {item.name: item.certainty for item in found.settings}
    assert sure["tp"] is sure["dp"] is sure["data-rank"] is Certainty.TOLD
    assert not found.contradictions

    given = like_profile(model, memplan.open_profile(folder), given={"tp": 4, "context": 512, "global_batch": 8})
    assert given.values["tp"] == 4
    assert given.values["micro_batches"] == 4
    assert [text.split(",")[0] for text in given.contradictions] == [
        "tp 4 was given",
        "micro-batches 4 follows from 8 samples a step",
    ]

    sizes["tensor_model_parallel_size"] = 4
    (folder / "profiler_metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    torn = like_profile(model, memplan.open_profile(folder))
    assert any(text.startswith("tp is 4 (distributed_args") for text in torn.contradictions)


def test_another_model_is_noticed(shared_data: Path, tmp_path: Path) -> None:
    folder = run(cut(shared_data, SMALL, 4), tmp_path, chip="910B3", recipe=Recipe(512, 1, 1))
    with pytest.raises(InputError, match="is as wide as"):
        like_profile(cut(shared_data, DENSE, 4), memplan.open_profile(folder))


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("", ()),
        ("N/A", ()),
        ('"4096,1024;1024;"', ((4096, 1024), (1024,), ())),
        ('";"', ((), ())),
        ("2,x;3", ((2, 1), (3,))),
    ],
)  # fmt: skip
def test_operands_as_profilers_print_them(text: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    assert operand_shapes(text) == shapes


# --- the measured run


@pytest.fixture
def qwen(shared_data: Path) -> tuple[Path, Path]:
    return shared_data / "configs" / f"{SMALL}.json", shared_data / "profiles" / "qwen3-0.6b-train-4rank"


def test_a_plan_like_a_measured_run(
    qwen: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, profiles = qwen
    target = tmp_path / "plan.json"
    assert main(["plan", str(config), "--like", str(profiles / "rank_0_ascend_pt"), "-o", str(target)]) == 0
    assert "Planned for" in capsys.readouterr().out
    plan = memplan.load_plan(target)
    shown = {item.name: item.value for item in plan.settings}
    expected = {"tp": "1", "pp": "2", "dp": "2", "stage": "0", "micro-batch": "1", "micro-batches": "2",
                "sequence": "4096", "precision": "bf16", "chip": "Ascend910B4", "clock": "1,650 MHz"}  # fmt: skip
    assert {name: shown[name] for name in expected} == expected
    use = plan.tier(Tier.HBM)
    curve = memplan.open_profile(profiles / "rank_0_ascend_pt").rank(0).memory("PTA")
    assert use is not None
    assert curve is not None
    assert curve.allocated is not None
    assert use.peak / MIB == pytest.approx(int(curve.allocated.max()) / MIB, rel=0.01)


@pytest.mark.parametrize(
    ("folder", "rank"), [(".", 1), (".", 3), ("rank_1_ascend_pt", None), ("rank_3_ascend_pt", None)]
)
def test_ranks_without_kernels_are_told_by_traffic_and_by_others(
    qwen: tuple[Path, Path], folder: str, rank: int | None
) -> None:
    config, profiles = qwen
    found = like_profile(load_config(config), memplan.open_profile(profiles / folder), rank)
    expected = {"pp": 2, "dp": 2, "stage": found.rank // 2, "data_rank": found.rank % 2, "context": 4096,
                "micro_batch": 1, "micro_batches": 2}  # fmt: skip
    assert not wrong(found.values, expected)
    sure = {item.name: item.certainty for item in found.settings}
    assert sure["micro-batch"] is (Certainty.ASSUMED if rank is None else Certainty.FOLLOWS)
