"""Checkpoints at hand: bytes per rank from the files themselves, and what ModelSlim's description leaves in 16 bits."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from memplan.core.errors import InputError
from memplan.hardware import chip
from memplan.kv.served_weights import served_weights, weight_notes
from memplan.models import ModelConfig, load_config
from memplan.models.parallel import ONE_RANK, Layout, rank_weight_bytes, rank_weights
from memplan.models.precision import PUBLISHED, precision
from memplan.models.stored_weights import read_stored_weights

CONFIG = {
    "model_type": "qwen3_moe", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 16,
    "num_key_value_heads": 2, "moe_intermediate_size": 32, "intermediate_size": 128, "num_experts": 8,
    "num_experts_per_tok": 2, "vocab_size": 256, "max_position_embeddings": 1024, "torch_dtype": "bfloat16",
    "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": False, "norm_topk_prob": True,
}  # fmt: skip
HEADS = (("q", 64), ("k", 32), ("v", 32))
SIZES = {"BF16": 2, "I8": 1, "F32": 4}


def write_tensors(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """A file of those tensors without their data, and how many bytes they have."""
    document: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in tensors.items():
        size = SIZES[dtype]
        for side in shape:
            size *= side
        document[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    header = json.dumps(document).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return offset


def tensors_of(kind: str = "BF16") -> dict[str, tuple[str, tuple[int, ...]]]:
    """All tensors of a checkpoint of the config, matrices of layers as `kind`."""
    found: dict[str, tuple[str, tuple[int, ...]]] = {
        "model.embed_tokens.weight": ("BF16", (256, 64)),
        "model.norm.weight": ("BF16", (64,)),
        "lm_head.weight": ("BF16", (256, 64)),
    }
    for layer in range(2):
        at = f"model.layers.{layer}"
        found |= {f"{at}.{name}.weight": ("BF16", (64,)) for name in ("input_layernorm", "post_attention_layernorm")}
        found |= {f"{at}.self_attn.{name}_norm.weight": ("BF16", (16,)) for name in "qk"}
        found |= {
            f"{at}.self_attn.{name}_proj.weight": (kind, (rows, 64)) for name, rows in (("q", 64), ("k", 32), ("v", 32))
        }
        found[f"{at}.self_attn.o_proj.weight"] = (kind, (64, 64))
        found[f"{at}.mlp.gate.weight"] = ("BF16", (8, 64))
        for expert in range(8):
            found |= {f"{at}.mlp.experts.{expert}.{name}_proj.weight": (kind, (32, 64)) for name in ("gate", "up")}
            found[f"{at}.mlp.experts.{expert}.down_proj.weight"] = (kind, (64, 32))
            if kind == "I8":
                found[f"{at}.mlp.experts.{expert}.down_proj.weight_scale"] = ("F32", (64, 1))
    return found


def held(model: ModelConfig, layout: Layout = ONE_RANK, span: range = range(2), *, mtp: bool = False) -> dict[str, int]:
    return dict(rank_weight_bytes(model, layout, precision(PUBLISHED, model), span, mtp=mtp))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    return tmp_path


@pytest.mark.parametrize("layout", [ONE_RANK, Layout(tensor=2), Layout(tensor=4), Layout(tensor=2, data=2, expert=4)])
def test_files_in_16_bits_say_what_the_config_says(folder: Path, layout: Layout) -> None:
    planned = held(load_config(folder), layout)
    write_tensors(folder / "model.safetensors", tensors_of())
    model = load_config(folder)
    assert model.stored is not None
    assert model.stored.unknown == 0
    assert held(model, layout) == planned
    assert "headers of 1 safetensors file" in str(precision(PUBLISHED, model).source)


def test_quantised_files_are_counted_as_they_are(folder: Path) -> None:
    total = write_tensors(folder / "model.safetensors", tensors_of("I8"))
    model = load_config(folder)
    assert sum(held(model).values()) == total
    shared = held(model, Layout(tensor=2, data=2, expert=4))
    assert shared["experts"] * 4 == held(model)["experts"]


def test_layers_of_a_stage_and_drafts_are_told_apart(folder: Path) -> None:
    drafts = {"mtp.layers.0.self_attn.q_proj.weight": ("BF16", (64, 64)), "mtp.fc.weight": ("BF16", (64, 128))}
    write_tensors(folder / "model.safetensors", {**tensors_of(), **drafts})
    model = load_config(folder)
    first, last = held(model, span=range(1)), held(model, span=range(1, 2))
    assert first["attention"] == last["attention"]
    assert "lm_head" not in first
    assert "embedding" not in last
    plain = sum(held(model).values())
    assert sum(held(model, mtp=True).values()) == plain + 2 * (64 * 64 + 64 * 128)


@pytest.mark.parametrize(
    ("group", "name", "vision"),
    [("lookup", "model.layers.0.engram.embed.weight", True), ("vision", "visual.blocks.0.attn.qkv.weight", False)],
)
def test_lookup_tables_and_towers_that_are_not_served_are_left_out(
    folder: Path, group: str, name: str, vision: bool
) -> None:
    more = {name: ("BF16", (64, 64))}
    write_tensors(folder / "model.safetensors", {**tensors_of(), **more})
    model = load_config(folder)
    assert model.stored is not None
    assert any(part.group == group for part in model.stored.parts)
    scheme = precision(PUBLISHED, model)
    found = rank_weight_bytes(model, ONE_RANK, scheme, range(2), vision=vision)
    assert group not in found
    if not vision:
        assert rank_weight_bytes(model, ONE_RANK, scheme, range(2))[group] == 2 * 64 * 64


def test_missing_files_and_unknown_names_are_said(folder: Path) -> None:
    index = {"metadata": {"total_size": 10**9}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    write_tensors(folder / "one.safetensors", tensors_of())
    model, die = load_config(folder), chip("910B3")
    notes = [str(note) for note in weight_notes(model, ONE_RANK, served_weights(model, die, PUBLISHED), range(2))]
    assert any("1 files of the checkpoint are missing" in note for note in notes)
    assert any("index says 953.7 MiB in all" in note for note in notes)
    write_tensors(folder / "two.safetensors", {"model.novelty": ("BF16", (4,))})
    model = load_config(folder)
    notes = [str(note) for note in weight_notes(model, ONE_RANK, served_weights(model, die, PUBLISHED), range(2))]
    assert any("1 tensors of the checkpoint have names that are not known" in note for note in notes)


@given(some.binary(max_size=200))
def test_any_bytes_are_a_checkpoint_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "model.safetensors").write_bytes(content)
    # A header of an empty object is the least that is one.
    if content[:10] == struct.pack("<Q", 2) + b"{}":
        assert read_stored_weights(folder) is not None
        return
    with pytest.raises(InputError, match=r"model\.safetensors"):
        read_stored_weights(folder)


@pytest.mark.parametrize(
    "content",
    [b"{}", b"[]", b'{"weight_map": 3}', b'{"weight_map": {"a": "../x.safetensors"}, "metadata": 1}', b"\xff"],
)
def test_an_index_that_is_none_is_one_line(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(InputError, match="no index of tensors"):
        load_config(folder)


def test_sizes_that_no_tensor_has_are_one_line(folder: Path) -> None:
    """Went wrong once: JSON's `Infinity` is no whole number, and said so with a traceback."""
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {}, "metadata": {"total_size": Infinity}}')
    assert load_config(folder).name
    head = b'{"a": {"dtype": "BF16", "shape": [Infinity], "data_offsets": [0, 2]}}'
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)
    index.unlink()
    with pytest.raises(InputError, match="without offsets"):
        load_config(folder)


def test_names_in_an_index_never_leave_the_folder(folder: Path) -> None:
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    assert read_stored_weights(folder) is None


def test_a_description_decides_matrix_by_matrix(folder: Path) -> None:
    plain = {
        f"model.layers.{layer}.{name}.weight": kind
        for layer in range(2)
        for name, kind in (("self_attn.q_proj", "W8A8_DYNAMIC"), ("self_attn.o_proj", "FLOAT"), ("mlp.gate", "FLOAT"))
    }
    (folder / "quant_model_description.json").write_text(json.dumps({"model_quant_type": "W8A8", **plain}), "utf-8")
    model = load_config(folder)
    scheme = precision(PUBLISHED, model)
    assert scheme.wide == ("gate", "kv_b_proj", "o_proj")
    narrow = precision("w8a8", model)
    difference = sum(held(model).values()) - sum(rank_weight_bytes(model, ONE_RANK, narrow, range(2)).values())
    # One byte an element more for the outputs' matrices, without the scales of 64 rows.
    assert difference == 2 * (64 * 64 - 64 * 8)


def test_the_first_stage_holds_the_norm_of_looked_up_rows(tmp_path: Path) -> None:
    """As without files: BLOOM's norm behind the embedding is not the last stage's."""
    config = {"model_type": "bloom", "hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 256}
    (tmp_path / "config.json").write_text(json.dumps({**config, "torch_dtype": "bfloat16"}), "utf-8")
    norms = ("word_embeddings_layernorm", "h.0.input_layernorm", "h.1.input_layernorm", "ln_f")
    tensors = {f"transformer.{name}.{kind}": ("BF16", (64,)) for name in norms for kind in ("weight", "bias")}
    del tensors["transformer.ln_f.bias"]
    planned = load_config(tmp_path)
    write_tensors(
        tmp_path / "model.safetensors", {"transformer.word_embeddings.weight": ("BF16", (256, 64)), **tensors}
    )
    stored, layout = load_config(tmp_path), Layout(pipeline=2)
    assert [held(stored, layout, range(at, at + 1))["norm"] for at in (0, 1)] == [2 * 64 * 4, 2 * 64 * 3]
    outer = [
        [item.name for item, _ in rank_weights(planned, layout, range(at, at + 1)) if item.layer is None]
        for at in (0, 1)
    ]
    assert outer == [["embed_tokens", "embed_norm", "embed_norm.bias"], ["embed_tokens", "norm", "norm.bias"]]
