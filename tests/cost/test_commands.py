"""`memplan op` and `memplan calibrate` answer in tables or JSON, and refuse nonsense in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.cli import main
from memplan.cost import load_calibration
from memplan.planner import plan

SAMPLE = Path(__file__).resolve().parents[2] / "memplan" / "samples"


def test_a_matmul_is_reported_with_tile_buffers_traffic_and_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["op", "matmul", "--m", "4096", "--n", "4096", "--k", "7168", "--dtype", "bf16", "--chip", "910B3"]) == 0
    )
    text = capsys.readouterr().out
    for word in ("bound by", "tiling:", "L0C", "lower bound", "Traffic", "Pipes", "rests on"):
        assert word in text


@pytest.mark.parametrize("name", ["910B4", "910B3", "950DT_9573", "310P3"])
def test_op_and_chips_tell_the_same_bandwidth_and_its_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: `chips` called a rate unknown that `op` computed with."""
    assert main(["chips", name, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    # A product of one row waits for its weights: at the roofline's best, its time is their bytes over HBM's rate.
    assert (
        main(["op", "matmul", "--m", "1", "--n", "8192", "--k", "8192", "--chip", name, "--dtype", "fp16", "--json"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    moved = 2 * (8192 * 8192 + 2 * 8192)
    assert found["bounds"]["time_ns"] == pytest.approx(moved / record["hbm_bytes_per_second"] * 1e9, abs=1)
    stated = record["values"]["hbm_bw"]
    assert stated["value"] * 1e9 == record["hbm_bytes_per_second"]
    named = {source["note"] for source in found["rests_on"]}
    assert record["hbm_basis"] == "" or stated["source"] in named


def test_a_matmul_s_json_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["op", "matmul", "--m", "512", "--n", "7168", "--k", "2048", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["flops"] == 2 * 512 * 7168 * 2048
    assert document["gm_bytes"] >= document["bounds"]["gm_bytes"]
    assert document["time_ns"] >= document["bounds"]["time_ns"]
    assert document["fits"]
    assert document["tilings_enumerated"] > 500
    sizes = [point["on_chip_bytes"] for point in document["pareto"]]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize(
    "options",
    [
        "--q-len 4096 --kv-len 4096 --heads 16 --kv-heads 8",
        "--q-len 4096 --kv-len 4096 --heads 16 --kv-heads 8 --backward",
        "--q-len 1 --kv-len 65536 --heads 128 --kv-heads 1 --head-dim 576 --v-dim 512 --mla",
        "--q-len 1 --kv-len 65536 --heads 64 --kv-heads 1 --indexer --top-k 2048",
        "--q-len 8192 --kv-len 8192 --heads 8 --window 1024 --chip 950PR_9589",
        "--q-len 1 --kv-len 1048576 --heads 64 --kv-heads 1 --ratio 128 --window 128",
        "--q-len 2048 --kv-len 2048 --heads 8 --chunk 512 --page 128",
    ],
)
def test_every_kind_of_attention_is_answered(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["op", "attention", *options.split()]) == 0
    assert "keys a query" in capsys.readouterr().out
    assert main(["op", "attention", *options.split(), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["time_ns"] > 0
    assert document["fits"]


def test_a_sweep_draws_a_curve(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["op", "matmul", "--m", "1", "--n", "4096", "--k", "4096", "--sweep", "m=16:1024", "--json"]) == 0
    points = json.loads(capsys.readouterr().out)
    assert [point["m"] for point in points] == [16 << step for step in range(7)]
    times = [point["time_ns"] for point in points]
    assert times == sorted(times)
    assert main(["op", "attention", "--q-len", "1", "--kv-len", "64", "--heads", "8", "--sweep", "kv_len=64,128"]) == 0
    assert "###" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        "matmul --m 0 --n 1 --k 1",
        "matmul --m 8 --n 8 --k 8 --dtype int4 --chip 950PR_9589",
        "matmul --m 8 --n 8 --k 8 --dtype float1",
        "matmul --m 8 --n 8 --k 8 --cores 99",
        "matmul --m 8 --n 8 --k 8 --activation Zwiebel",
        "matmul --m 8 --n 8 --k 8 --sweep q=1:2",
        "matmul --m 8 --n 8 --k 8 --sweep m=a:b",
        "matmul --m 8 --n 8 --k 8 --sweep m=9:3",
        "matmul --m 8 --n 8 --k 8 --chip 911",
        "attention --q-len 9 --kv-len 8 --heads 8",
        "attention --q-len 8 --kv-len 8 --heads 8 --kv-heads 3",
        "attention --q-len 8 --kv-len 8 --heads 8 --sweep q_len=8,16",
        "attention --q-len 8 --kv-len 8 --heads 8 --dtype int8 --chip 910B3 --top-k -1",
    ],
)
def test_nonsense_is_refused_in_one_line(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["op", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("memplan: ")
    assert captured.err.count("\n") == 1


def test_a_profile_calibrates_a_plan(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "cal.json"
    profile = shared_data / "profiles" / "qwen3-0.6b-train-4rank"
    assert main(["calibrate", str(profile), "-o", str(target)]) == 0
    text = capsys.readouterr().out
    assert "Ascend910B4" in text
    assert "kept apart" in text
    calibration = load_calibration(target)
    assert calibration.check_error is not None
    plain = plan(SAMPLE / "cnn.mindir", chip="910B4")
    fitted = plan(SAMPLE / "cnn.mindir", chip="910B4", calibration=target)
    assert any("calibrated on qwen3" in source.value for source in fitted.rests_on)
    assert not any("calibrated" in source.value for source in plain.rests_on)
    # The profile's kernels are of other types and shapes than this graph's: what it says of them is nothing.
    assert fitted.makespan_ns == plain.makespan_ns
    assert len(calibration.seen_ns) > 50
    assert calibration.unseen_error is not None
    assert calibration.unseen_error < 1.02 * (calibration.unseen_model_error or 0)


def test_a_folder_without_kernels_can_t_calibrate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(tmp_path), "-o", str(tmp_path / "cal.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "cal.json").exists()


def test_the_calibration_of_another_chip_is_refused(shared_data: Path, tmp_path: Path) -> None:
    target = tmp_path / "cal.json"
    profile = shared_data / "profiles" / "qwen3-0.6b-train-4rank"
    assert main(["calibrate", str(profile), "-o", str(target), "--json"]) == 0
    assert main(["plan", str(SAMPLE / "cnn.mindir"), "--chip", "910B1", "--calibration", str(target)]) == 2
