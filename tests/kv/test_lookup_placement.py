"""Where Engram tables can stand: bytes of each place, what its link sustains, what the cache gains, crossings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.cli.app import main

WHOLE = 202_758_032_400
"""Bytes of the two tables with their scales (the sum of the checkpoint's four tensors)."""
A3 = ["--chip", "910C", "--engine", "vllm-ascend-0.30.0rc2", "--context", "131072", "--max-num-batched-tokens", "8192"]
THREE = ["--tp", "8", "--dp", "3", "--ep", "24", "--weights", "w8a8"]


def places(shared_data: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    config = str(shared_data / "configs" / "deepseek-ai--DeepSeek-V4.1-Flash.json")
    assert main(["kv", config, "--lookup-tables", "--json", *words]) in (0, 1)
    found = json.loads(capsys.readouterr().out)["lookup_places"]
    return found, {place["name"]: place for place in found["places"]}


def test_tables_on_a_950(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--chip", "950DT_9591", "--engine", "vllm-0.33.0-b200", "--tp", "8", "--context", "131072"]
    found, by_name = places(shared_data, capsys, *words)
    assert found["rows"] == 48
    assert found["token_bytes"] == 48 * 264
    die, host = by_name["HBM, divided by tensor parallelism"], by_name["host memory, one copy shared"]
    assert abs(die["on_die"] * 8 - WHOLE) < 100
    assert host["on_host"] == WHOLE
    assert host["cache"] - die["cache"] == die["on_die"]
    assert host["sequences"] > die["sequences"] > 0
    # 6 of 48 rows a rank over 55 GB/s.
    assert host["tokens_per_second"] == pytest.approx(55e9 / (6 * 264))
    assert by_name["pool of host memory over UB"]["refused"]
    assert found["least_tensor"] == 4


def test_tables_on_an_a3(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = ["--tp", "4", "--dp", "4", "--ep", "16", "--weights", "w8a8"]
    found, by_name = places(shared_data, capsys, *A3, *layout)
    assert by_name["HBM, divided by tensor parallelism"]["sequences"] == 0
    assert "24 hashes can't be divided among 16 ranks" in by_name["HBM of all replicas, rows from peers"]["refused"]
    each, shared = by_name["host memory, a copy for each replica"], by_name["host memory, one copy shared"]
    assert each["on_host"] == 4 * shared["on_host"]
    # 12 rows a rank, one after the other, at 1 us.
    assert each["serial"] == pytest.approx(1e9 / 12_000)
    assert by_name["pool of host memory over UB"]["rate"] == 151e9
    assert found["least_tensor"] == 8
    assert found["reading"] > found["decoding"] > 0


def test_rows_of_peers_where_the_hashes_divide(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, by_name = places(shared_data, capsys, *A3, *THREE)
    peers, die = by_name["HBM of all replicas, rows from peers"], by_name["HBM, divided by tensor parallelism"]
    assert not peers["refused"]
    assert abs(peers["on_die"] * 3 - die["on_die"]) < 100
    assert die["sequences"] < peers["sequences"] < by_name["host memory, one copy shared"]["sequences"]
    assert die["tokens_per_second"] > peers["tokens_per_second"] > by_name["host memory, one copy shared"]["serial"]


def test_the_table_is_shown_with_its_crossings(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(shared_data / "configs" / "deepseek-ai--DeepSeek-V4.1-Flash.json")
    assert (
        main(["kv", config, "--lookup-tables", *A3, "--tp", "8", "--dp", "3", "--ep", "24", "--weights", "w8a8"]) == 0
    )
    shown = " ".join(capsys.readouterr().out.split())
    assert "a replica reads prompts at" in shown
    assert "HBM, divided by tensor parallelism pays from" in shown
    assert "tables and a sequence are on the dies from tensor parallelism 8 on" in shown


def test_a_rate_that_no_source_gives_is_told_as_a_function(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--chip", "950DT_9591", "--engine", "vllm-0.33.0-b200", "--tp", "8", "--context", "131072"]
    found, by_name = places(shared_data, capsys, *words)
    pool = by_name["pool of host memory over UB"]
    assert (pool["rate"], pool["tokens_per_second"]) == (None, None)
    assert pool["cache"] == by_name["host memory, one copy shared"]["cache"]
    # 6 of 48 rows of 264 B are read by a rank.
    assert found["reading_bytes_per_second"] == pytest.approx(found["reading"] * 6 * 264)
    keeps = {item["bytes_per_second"]: item["keeps_up_with"] for item in found["at_rates"]}
    assert keeps[round(found["decoding_bytes_per_second"])] == "decoding"
    assert keeps[round(found["reading_bytes_per_second"])] == "prompts and decoding"
    assert keeps[1_000_000] == "neither"
    assert keeps[10**11] == "prompts and decoding"


def test_reads_under_way_follow_from_rate_and_latency(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, by_name = places(shared_data, capsys, *A3, *THREE)
    # 6 rows a rank and token, 1 us each (Little's law).
    assert by_name["host memory, one copy shared"]["in_flight"] == pytest.approx(found["reading"] * 6 * 1e-6)


def test_per_layer_inputs_are_tables_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Gemma 4: 262,144 rows of 30 layers x 256 elements in 16 bits, on the dies unless told otherwise."""
    families = json.loads((Path(__file__).parents[1] / "models" / "families.json").read_text("utf-8"))
    config = tmp_path / "config.json"
    config.write_text(json.dumps(families["gemma4_text-ple"]["config"]), "utf-8")
    told = ["kv", str(config), "--chip", "910B3", "--engine", "vllm-0.33.0-h100", "--context", "8192", "--tp", "2"]
    assert main([*told, "--lookup-tables", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    found = document["lookup_places"]
    by_name = {place["name"]: place for place in found["places"]}
    die, host = by_name["HBM, divided by tensor parallelism"], by_name["host memory, one copy shared"]
    assert (found["rows"], found["token_bytes"]) == (1, 30 * 256 * 2)
    assert host["on_host"] == 262144 * 30 * 256 * 2
    assert die["on_die"] == host["on_host"] // 2
    assert die["cache"] == document["available_bytes"]
    assert host["cache"] - die["cache"] == die["on_die"]
    assert host["tokens_per_second"] == pytest.approx(55e9 / (30 * 256))
    assert found["least_tensor"] == 1


@pytest.mark.parametrize(("name", "rows"), [("gemma3n_text", 1), ("qwen4_exp-tables", 32)])
def test_tables_of_other_families(name: str, rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Gemma 3n's per-layer inputs, and the n-grams of Qwen3.8-Flash-Next in two layers of 16 hashes."""
    folder = Path(__file__).parents[1] / "models"
    known = {**json.loads((folder / "families.json").read_text("utf-8"))}
    known.update(json.loads((folder / "described.json").read_text("utf-8"))["families"])
    values = known[name]["config"]
    config = tmp_path / "config.json"
    config.write_text(json.dumps(values), "utf-8")
    told = ["kv", str(config), "--chip", "910C", "--engine", "vllm-0.33.0-h100", "--context", "8192", "--tp", "4"]
    experts = () if name == "gemma3n_text" else ("--ep", "4")
    assert main([*told, *experts, "--lookup-tables", "--json"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)["lookup_places"]
    by_name = {place["name"]: place for place in found["places"]}
    die, host = by_name["HBM, divided by tensor parallelism"], by_name["host memory, one copy shared"]
    if name == "gemma3n_text":
        whole, token = values["vocab_size_per_layer_input"], values["num_hidden_layers"]
        whole, token = (count * values["hidden_size_per_layer_input"] * 2 for count in (whole * token, token))
    else:
        # Primes from 20,000 on, 16 a table, padded to 128 rows of 128 elements; a token reads one row a hash.
        whole, token = 2 * 16 * 20_190 * 128 * 2, 32 * 128 * 2
    assert found["rows"] == rows
    assert found["token_bytes"] == token
    assert host["on_host"] == pytest.approx(whole, rel=0.01)
    assert die["on_die"] == pytest.approx(host["on_host"] / 4, rel=1e-6)
    assert host["cache"] - die["cache"] == die["on_die"]
    # Rows, not hashes, are divided: no number of ranks is refused for it.
    assert all("hashes" not in place["refused"] for place in found["places"])


def test_models_without_tables_say_so(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", str(shared_data / "configs" / "Qwen--Qwen3-8B.json"), "--lookup-tables"]) == 2
    assert "has no lookup tables" in capsys.readouterr().err
