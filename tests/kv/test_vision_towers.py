"""Vision towers whose heads do not divide among the ranks, as vLLM's own classes were built with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memplan.cli.app import main
from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.kv import ServingOptions, engine, resolve
from memplan.models import load_config
from memplan.models.parallel import Layout, rank_weight_bytes
from memplan.models.precision import precision

TEXT = {
    "model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 16, "head_dim": 64,
    "num_key_value_heads": 4, "intermediate_size": 2048, "vocab_size": 32000, "max_position_embeddings": 8192,
    "torch_dtype": "bfloat16",
}  # fmt: skip
TOWER = {
    "depth": 4, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 9, "in_channels": 3, "patch_size": 16,
    "temporal_patch_size": 2, "spatial_merge_size": 2, "out_hidden_size": 1024, "num_position_embeddings": 2304,
    "deepstack_visual_indexes": [],
}  # fmt: skip
ENGINES = ("vllm-0.23.0", "vllm-0.33.0-h100", "vllm-ascend-0.23.0.post1", "vllm-ascend-0.30.0rc2")


def served(model_type: str = "qwen3_vl") -> dict[str, Any]:
    tower = TOWER | {"model_type": model_type if model_type == "qwen3_vl" else "siglip_vision_model"}
    return {"model_type": model_type, "text_config": TEXT, "vision_config": tower}


@pytest.mark.parametrize("name", ENGINES)
def test_heads_of_a_tower_that_do_not_divide_are_refused(name: str) -> None:
    model, taken, options = load_config(served()), engine(name, chip("910C")), ServingOptions(length=4096)
    with pytest.raises(InputError, match="9 attention heads of the vision tower can't be divided among 2 ranks"):
        resolve(model, taken, options, Layout(tensor=2))
    resolve(model, taken, options, Layout(tensor=2, whole_towers=True))
    resolve(model, taken, options)


@pytest.mark.parametrize("name", ENGINES)
def test_classes_that_pad_heads_or_hold_the_tower_whole_are_planned(name: str) -> None:
    model = replace(load_config(served()), model_type="internvl")
    resolve(model, engine(name, chip("910C")), ServingOptions(length=4096), Layout(tensor=2))


def test_the_remedy_is_one_that_the_class_has() -> None:
    model, taken = replace(load_config(served()), model_type="gemma3"), engine("vllm-0.33.0-h100", chip("910C"))
    with pytest.raises(InputError) as found:
        resolve(model, taken, ServingOptions(length=4096), Layout(tensor=2))
    assert "--mm-encoder-tp-mode" not in str(found.value)


def test_a_whole_tower_is_on_every_rank() -> None:
    document = served()
    document["vision_config"] |= {"num_heads": 16}
    model = load_config(document)
    scheme, span = precision("bf16", model), range(4)

    def held(layout: Layout) -> int:
        return sum(n for kind, n in rank_weight_bytes(model, layout, scheme, span).items() if kind == "vision")

    assert held(Layout(tensor=2, whole_towers=True)) == held(Layout()) > held(Layout(tensor=2)) > 0


def test_the_engines_option_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(served()), "utf-8")
    line = ["kv", "--", "vllm", "serve", str(path), "-tp", "2", "--max-model-len", "4096"]
    assert main(line) == 2
    assert "--mm-encoder-tp-mode data" in capsys.readouterr().err
    assert main([*line, "--mm-encoder-tp-mode", "data"]) == 0
    assert main(["kv", str(path), "--mm-encoder-tp-mode", "both"]) == 2
