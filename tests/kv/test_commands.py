"""`memplan kv`, `memplan fit` and `memplan chips`: answers, exit codes and errors of one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.cli import main
from memplan.core.units import GIB

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}


@pytest.fixture
def llama(tmp_path: Path) -> str:
    path = tmp_path / "llama" / "config.json"
    path.parent.mkdir()
    path.write_text(json.dumps(LLAMA), encoding="utf-8")
    return str(path)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code = main([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_kv_says_what_a_token_costs_and_how_many_fit(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "kv", llama, "--chip", "910B3", "--tp", "8", "--context", "32768")
    assert code == 0
    assert found["bytes_per_token"] == 16_384
    assert found["tokens"] == found["sequences"] * 32_768
    assert found["pool"]["groups"][0]["layers"] == 32
    sizes = [item["nbytes"] or 0 for item in found["items"]]
    assert sizes[0] == 64 * GIB
    assert sizes[0] - sum(sizes[1:-1]) == sizes[-1] == found["available_bytes"]


def test_kv_prints_tables(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", llama, "--tp", "8", "--context", "32768", "--batch", "4", "--host-memory", "64GiB"]) == 0
    out = capsys.readouterr().out
    for words in ("memory of one die", "bytes per token", "longest context for 4 sequences", "restore a sequence"):
        assert words in out
    assert "recomputing 32,768 tokens instead" in out


def test_whole_bytes_are_whole(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: a token took `16,384.0` bytes, `16,384.0` of them content."""
    assert main(["kv", llama, "--tp", "8", "--context", "32768"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "bytes per token" in line)
    assert line.split()[-5:] == ["16,384", "16,384", "of", "them", "content"]


def test_kv_answers_no_when_nothing_fits(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "kv", llama, "--hbm", "20GiB", "--context", "131072")
    assert code == 1
    assert found["fits"] is False
    assert found["missing_bytes"] > 0
    assert main(["kv", llama, "--hbm", "20GiB"]) == 1
    assert "does not fit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--chip", "910B9"], "no chip is called '910B9'"),
        (["--tp", "3"], "can't be divided among 3 ranks"),
        (["--engine", "tensorrt"], "no engine is called 'tensorrt'"),
        (["--weights", "int3"], "no precision is called 'int3'"),
        (["--hbm", "lots"], "'lots' is not a size"),
        (["--pp", "64"], "can't be divided among 64 pipeline stages"),
        (["--kv-dtype", "fp4"], "keeps no cache of the attention of llama in 'fp4'"),
        (["--pooled-memory", "1GiB", "--chip", "910B3"], "has no link 'ub_host'"),
    ],
)
def test_kv_refuses_in_one_line(
    llama: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["kv", llama, *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_kv_names_a_missing_file_and_a_missing_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", str(tmp_path / "nowhere.json")]) == 2
    assert "nowhere.json" in capsys.readouterr().err
    broken = tmp_path / "config.json"
    broken.write_text(json.dumps({key: value for key, value in LLAMA.items() if key != "hidden_size"}), "utf-8")
    assert main(["kv", str(broken)]) == 2
    assert "field hidden_size: is missing; the llama family needs it" in capsys.readouterr().err


def test_kv_shows_what_other_options_would_do(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "kv", llama, "--tp", "8", "--context", "32768", "--effects")
    assert code == 0
    by_type = {item["value"]: item for item in found["effects"] if item["option"] == "KV type"}
    assert by_type["bf16"]["bytes_per_token"] == 2 * by_type["int8"]["bytes_per_token"]
    blocks = [item["prefix_granularity"] for item in found["effects"] if item["option"] == "block size"]
    assert blocks == [128]
    assert main(["kv", llama, "--tp", "8", "--effects"]) == 0
    assert "What other options would do" in capsys.readouterr().out


def test_fit_ranks_layouts_and_tells_why_others_are_out(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "fit", llama, "--npus", "16", "--chip", "910B3", "--context", "131072")
    assert code == 0
    assert found["fitting"][0]["capacity"] == max(item["capacity"] for item in found["fitting"])
    assert len(found["fitting"]) + len(found["rejected"]) == 15
    assert all(item["rejected"] for item in found["rejected"])
    code, found = answer(capsys, "fit", llama, "--npus", "2", "--hbm", "8GiB", "--context", "131072")
    assert code == 1
    assert not found["fitting"]


def test_fit_for_training(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "fit", llama, "--npus", "16", "--train", "--context", "4096")
    assert code == 0
    assert all(item["memory_bytes"] <= 64 * GIB for item in found["fitting"])
    assert main(["fit", llama, "--npus", "8", "--train", "--context", "4096"]) == 0
    assert "largest micro-batch" in capsys.readouterr().out


def test_train_memory_breaks_the_peak_down(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    layout = ["--tp", "4", "--pp", "2", "--dp", "2", "--global-batch", "16", "--sequence-parallel"]
    code, found = answer(capsys, "train-memory", llama, "--sequence", "4096", *layout)
    assert code == 0
    assert found["peak_bytes"] == sum(part["nbytes"] for part in found["parts"]) <= found["capacity_bytes"]
    assert found["largest_micro_batch"] >= 1
    assert all(way["peak_bytes"] <= found["capacity_bytes"] for way in found["ways"])
    assert main(["train-memory", llama, "--sequence", "4096", *layout]) == 0
    assert "largest micro-batch" in capsys.readouterr().out


def test_train_memory_of_one_stage(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    layout = ["--tp", "8", "--pp", "2", "--sequence", "4096", "--global-batch", "4"]
    peaks = [answer(capsys, "train-memory", llama, *layout, "--stage", str(stage))[1] for stage in (0, 1)]
    _, tightest = answer(capsys, "train-memory", llama, *layout)
    assert [found["stage"] for found in peaks] == [0, 1]
    assert max(found["peak_bytes"] for found in peaks) == tightest["peak_bytes"]
    assert main(["train-memory", llama, *layout, "--stage", "2"]) == 2
    assert "there is no stage 2 among 2" in capsys.readouterr().err


def test_train_memory_answers_no_and_names_what_would_help(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-memory", llama, "--sequence", "8192", "--tp", "8", "--hbm", "32GiB"]) == 1
    out = capsys.readouterr().out
    assert "does not fit" in out
    assert "To fit" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sharding", "zero9"], "no sharding is called 'zero9'; known: none, distributed"),
        (["--schedule", "fast"], "no schedule is called 'fast'"),
        (["--pp", "500"], "can't be divided among 500 pipeline stages"),
        (["--dp", "4", "--global-batch", "6"], "can't be divided among 4 ranks"),
    ],
)
def test_train_memory_refuses_in_one_line(
    llama: str, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["train-memory", llama, "--sequence", "4096", *arguments]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


def test_drafting_needs_layers_to_draft_with(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", llama, "--num-speculative-tokens", "1"]) == 2
    assert "no layers of multi-token prediction" in capsys.readouterr().err


def test_chips_are_listed_and_shown_with_sources(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = answer(capsys, "chips")
    assert code == 0
    assert len(found) == 65
    code, found = answer(capsys, "chips", "910b3")
    assert code == 0
    assert found["values"]["hbm_bw"]["also"][0]["value"] == 1800
    assert main(["chips", "910C"]) == 0
    out = capsys.readouterr().out
    assert "Ascend910_9382" in out
    assert "two dies" in out
    assert main(["chips", "910B"]) == 2
    assert "910B4-1" in capsys.readouterr().err
