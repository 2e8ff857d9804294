"""Tables of rotary positions: their sizes by kind of scaling, and what engines keep of them."""

from __future__ import annotations

from typing import Any

import pytest

from memplan.core.units import MIB
from memplan.kv import engine
from memplan.models import load_config
from memplan.models.architecture import RotaryTable

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "vocab_size": 1024,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
GEMMA = LLAMA | {"model_type": "gemma3_text", "sliding_window": 512, "sliding_window_pattern": 2}


@pytest.mark.parametrize(
    ("scaling", "kind", "positions"),
    [
        (None, "default", 8192),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 1024}, "llama3", 8192),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}, "yarn", 32768),
        ({"rope_type": "linear", "factor": 2.0}, "linear", 16384),
        ({"rope_type": "dynamic", "alpha": 1000.0}, "dynamic", 8192),
        ({"rope_type": "longrope", "original_max_position_embeddings": 4096}, "longrope", 12288),
        ({"rope_type": "default", "mrope_section": [16, 24, 24]}, "mrope", 32768),
    ],
)
def test_positions_follow_the_scaling(scaling: dict[str, Any] | None, kind: str, positions: int) -> None:
    assert load_config(LLAMA | {"rope_scaling": scaling}).rotary == (RotaryTable(positions, 128, kind),)


def test_a_part_of_a_head_may_be_turned() -> None:
    assert load_config(LLAMA | {"partial_rotary_factor": 0.25}).rotary == (RotaryTable(8192, 32, "default"),)
    parameters = {"rope_type": "default", "partial_rotary_factor": 0.5}
    assert load_config(LLAMA | {"rope_parameters": parameters}).rotary == (RotaryTable(8192, 64, "default"),)


def test_windows_have_a_table_of_their_own_that_is_not_scaled() -> None:
    """Of public starts of Gemma-3-4b weights took 0.57 GiB more than the parameters: 512 and 64 MiB are tables."""
    scaled = {"rope_type": "linear", "factor": 8.0}
    model = load_config(GEMMA | {"rope_scaling": scaled, "rope_local_base_freq": 10000.0})
    assert set(model.rotary) == {RotaryTable(65536, 128, "linear"), RotaryTable(8192, 128, "default")}
    assert len(load_config(GEMMA).rotary) == 2


@pytest.mark.parametrize("wrong", ["8", True, [], -1, float("inf"), 1e300, {}])
def test_what_is_no_number_stops_nothing(wrong: object) -> None:
    for field in ("rope_theta", "partial_rotary_factor", "rotary_dim", "rope_scaling"):
        assert load_config(LLAMA | {field: wrong}).rotary
    assert load_config(LLAMA | {"rope_scaling": {"rope_type": wrong, "factor": wrong}}).rotary


def test_engines_keep_a_table_once_or_more() -> None:
    plain, scaled = RotaryTable(40960, 128, "default"), RotaryTable(40960, 128, "yarn")
    vllm, ascend = engine("vllm-0.23.0").held, engine("vllm-ascend-0.23.0.post1-a2").held
    assert vllm is not None
    assert ascend is not None
    assert (vllm.rotary_bytes(plain), ascend.rotary_bytes(plain)) == (10 * MIB, 30 * MIB)
    assert (vllm.rotary_bytes(scaled), ascend.rotary_bytes(scaled)) == (10 * MIB, 10 * MIB)
    assert ascend.rotary_bytes(RotaryTable(1 << 20, 64, "compressed")) == 512 * MIB
