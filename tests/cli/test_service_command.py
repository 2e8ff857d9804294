"""`memplan fit --ttft --tpot --rate`: answers, forms, exit codes and errors of one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memplan.cli.app import main
from tests.deployment.test_service_search import CONFIG


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG), "utf-8")
    return str(path)


GOAL = ("--ttft", "2s", "--tpot", "60ms", "--chip", "910C", "--input-length", "2000", "--output-length", "500")


def test_the_fewest_dies_are_told_with_what_to_start_them(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", config, *GOAL, "--rate", "8", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    best = told["options"][0]
    assert best["tpot_ns"] <= 60e6
    assert best["dies"] == min(item["dies"] for item in told["options"])
    assert {"instances", "layout", "batched_tokens", "kv", "drafts", "sequences"} <= best["pools"][0].keys()
    assert all(item["why"] for item in told["rejected"])
    assert main(["fit", config, *GOAL, "--rate", "8", "--format", "md"]) == 0
    page = capsys.readouterr().out
    assert "What to start the first with" in page
    assert "set-ups rejected" in page


def test_no_is_an_exit_code(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", config, *GOAL, "--rate", "2000", "--npus", "4"]) == 1
    assert "no set-up keeps the goal" in capsys.readouterr().out


def test_traffic_takes_the_place_of_lengths(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "traffic.jsonl"
    rows = [
        {"timestamp": 250 * number, "input_length": 2100, "output_length": 300, "hash_ids": [1, 2, 3, 4, 10 + number]}
        for number in range(200)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    asked = ("fit", config, "--ttft", "2s", "--tpot", "60ms", "--chip", "910C", "--trace", str(path), "--json")
    assert main(asked) == 0
    plain = json.loads(capsys.readouterr().out)["workload"]
    assert plain["rate"] == pytest.approx(4.0)
    assert plain["cached_tokens"] < 64
    assert main([*asked, "--prefix-cache", "100000"]) == 0
    cached = json.loads(capsys.readouterr().out)["workload"]
    assert cached["cached_tokens"] == pytest.approx(2048 * 199 / 200, rel=0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ttft", "2", "--rate", "1"), "is not a time"),
        (("--ttft", "2s"), "no rate is given"),
        (("--rate", "-1"), "asks for nothing"),
        (("--rate", "0"), "asks for nothing"),  # went wrong once: one request a second
        (("--rate", "1", "--percentile", "100"), "not between 0 and 1"),
        (("--rate", "1", "--drafts", "a"), "no list of numbers"),
        (("--rate", "1", "--drafts", "1"), "no layers for drafts"),
        (("--rate", "1", "--host", "nobody"), "no engine is called"),
        (("--rate", "1", "--host", "captured", "--host-factor", "2"), "hides its host"),
        (("--rate", "1", "--host-factor", "-1"), "not in the range"),
        (("--rate", "1", "--host-factor", "nan"), "must be a finite number"),
        (("--trace", "nothing.jsonl"), "can't be read"),
        ((), "no number of dies"),
        (("--npus", "8", "--train", "--even-routing"), "--even-routing means nothing with --train; leave it out"),
        (("--npus", "8", "--train", "--rate", "1"), "--rate means nothing with --train"),
        (("--npus", "8", "--percentile", "90"), "--percentile is of a service"),
        (("--npus", "8", "--host", "captured", "--host-factor", "2"), "hides its host"),
        (("--npus", "8", "--max-num-seqs", "8"), "--max-num-seqs is of a service"),
        (("--npus", "8", "--lora-rank", "8"), "--lora-rank is of training; give --train, or leave it out"),
        (("--rate", "1", "--micro-batch", "2"), "--micro-batch is of training"),
    ],
)
def test_what_can_not_be_asked_is_one_line(
    config: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert main(["fit", config, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
