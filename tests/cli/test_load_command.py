"""`memplan step --concurrency`: what public rows measured can be asked, and the answer is what is predicted of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine_rows import ROWS, EngineRow, engine_rows, shipped_hosts, told_ask
from memplan.cli import main
from memplan.serving.loaded_steps import prompt_steps

FAMILIES: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "models" / "families.json").read_text(encoding="utf-8")
)
LOAD = ("--chip", "910B3", "--input-length", "1000", "--output-length", "200")


KINDS = {
    "time a token": "Qwen3-8B BF16 TP2, 0.11.0rc2",
    "time a token beside others' prompts": "Qwen3-32B W8A8 TP2, 2K",
    "replicas": "Qwen3-32B BF16 TP4 DP2, 16 of 16K",
    "tokens a second": "Qwen3-30B-A3B W8A8 TP2, 8, SGLang",
    "experts shared by replicas": "Qwen3-30B BF16 DP2 EP2, 162, 7 drafts",
    "drafts, launched one by one": "Qwen3.5-27B W8A8 TP2, A2",
    "a model that drafts": "Qwen3-30B-A3B W8A8 TP2, 156 of 3.5K, SGLang",
    "caches hold fewer than ask": "Qwen3.5-122B W8A8 TP4, 80",
    "a rate that is kept up with": "Qwen3.6-35B W4A8 TP2, 32 at 0.6/s",
    "requests at a rate": "DeepSeek-V3.2 W8A8 TP8 DP2, 2 of 64K",
    "first token": "Qwen3-8B BF16, 1870, first",
    "first token, eager, without a server": "Qwen3.6-27B W8A8, 16384, first",
    "first token, MindIE": "Yi-6B BF16, 1000, first, MindIE",
    "answers of unequal lengths": "Qwen3-30B W8A8 TP2, 100 of ShareGPT",
    "no planner known": "Qwen3-8B BF16 TP2, 48, xLLM",
    "host hidden": "Qwen2.5-0.5B F16 910B4, 1, llama.cpp",
}
"""A public row of each kind."""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**FAMILIES["qwen2"]["config"], "num_hidden_layers": 4}), encoding="utf-8")
    return str(path)


def _asked(capsys: pytest.CaptureFixture[str], *words: object, answer: int = 0) -> dict[str, Any]:
    assert main(["step", *map(str, words), "--json"]) == answer
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_tables_say_what_who_asks_sees(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", config, *LOAD, "--concurrency", "8"]) == 0
    text = capsys.readouterr().out
    words = (
        "to the first token",
        "a token, on average",
        "tokens/s a die",
        "reading prompts",
        "memplan kv of",
        "not counted",
    )
    assert all(word in text for word in words)


def test_the_words_of_a_serving_benchmark_ask_the_same(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = _asked(capsys, config, *LOAD, "--concurrency", 8, "--num-prompts", 32)
    bench = ("--random-input-len", 1000, "--random-output-len", 200, "--max-concurrency", 8, "--request-rate", "inf")
    assert _asked(capsys, config, "--chip", "910B3", *bench, "--num-prompts", 32) == own
    assert own["sequences_at_once"] == 8
    assert own["requests_per_second"] * 200 == pytest.approx(own["tokens_per_second"]["value"])
    assert sum(own["parts"].values()) == pytest.approx(1)
    for name in ("ttft_ns", "tpot_ns", "tokens_per_second"):
        assert own[name]["low"] < own[name]["value"] < own[name]["high"]
    # All at once, and nobody after them.
    burst = _asked(capsys, config, *LOAD, "--num-prompts", 8)
    assert burst["waves"] == 1
    assert burst["ttft_ns"]["value"] > own["ttft_ns"]["value"]


def test_answers_of_one_token_have_no_time_between_tokens(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: the time of a prompt was told as one a token, beside a rate that knew of no such thing."""
    asked = ["--chip", "910B3", "--input-length", "1000", "--concurrency", "8"]
    alone = _asked(capsys, config, *asked, "--output-length", 1)
    assert alone["tpot_ns"] is alone["tpot_without_prompts_ns"] is None
    assert alone["requests_per_second"] == pytest.approx(alone["tokens_per_second"]["value"])
    assert main(["step", config, *asked, "--output-length", "1", "--tp", "1"]) == 0
    assert " a token; " not in capsys.readouterr().out


def test_no_more_run_at_once_than_the_engine_takes(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    free = _asked(capsys, config, *LOAD, "--concurrency", 8, "--num-prompts", 64)
    few = _asked(capsys, config, *LOAD, "--concurrency", 8, "--num-prompts", 64, "--max-num-seqs", 4)
    assert (few["sequences_at_once"], few["waves"]) == (4, 16)
    # Eight ask, four are answered: half of the time of each is spent waiting.
    busy = few["ttft_beside_others_ns"]["value"] + 199 * few["tpot_ns"]["value"]
    assert few["waiting_ns"] == pytest.approx(busy, rel=0.15)
    assert few["ttft_ns"]["value"] > few["waiting_ns"] > free["waiting_ns"] == 0
    assert few["tokens_per_second"]["value"] < free["tokens_per_second"]["value"]
    room = _asked(capsys, config, *LOAD, "--concurrency", 100000)
    assert room["sequences_at_once"] == room["limits"]["sequences_at_most"] < 100000
    kept = _asked(capsys, config, *LOAD, "--concurrency", 100000, "--engine", "xllm")
    assert (kept["limits"], kept["sequences_at_once"]) == (None, 100000)


def test_a_rate_has_as_many_at_once_as_come_in_the_time_of_one(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    slow = _asked(capsys, config, *LOAD, "--rate", 4)
    taken = slow["ttft_ns"]["value"] + 199 * slow["tpot_ns"]["value"]
    assert slow["sequences_at_once"] - 1 < 4 * taken / 1e9 <= slow["sequences_at_once"]
    assert slow["tokens_per_second"]["value"] == pytest.approx(800)
    bound = _asked(capsys, config, *LOAD, "--rate", 1000, "--concurrency", 4)
    assert bound["sequences_at_once"] == 4
    assert bound["waiting_ns"] == 0
    late = _asked(capsys, config, *LOAD, "--rate", 1000, answer=1)
    assert late["waiting_ns"] is late["ttft_ns"] is None
    assert any("longer and longer" in note for note in late["notes"])
    # Of so many requests the last waits until all before it are answered.
    ended = _asked(capsys, config, *LOAD, "--rate", 1000, "--num-prompts", 2000)
    assert ended["waiting_ns"] == pytest.approx(1e9 * 1000 * (1 / ended["requests_per_second"] - 1 / 1000))


def test_a_rate_is_told_as_it_is_if_steps_take_longer_or_less(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: a rate that is kept up with had an interval of no width, be it kept up with ever so hardly."""
    few = (*LOAD, "--max-num-seqs", 4)
    most = _asked(capsys, config, *few, "--rate", 1000, answer=1)["tokens_per_second"]
    assert most["low"] < most["value"] < most["high"]

    def asked(share: float, *more: object, answer: int = 0) -> dict[str, float]:
        found = _asked(capsys, config, *few, "--rate", share * most["value"] / 200, *more, answer=answer)
        figure: dict[str, float] = found["tokens_per_second"]
        return figure

    easily = asked(0.3)
    assert easily["low"] == easily["value"] == easily["high"] == pytest.approx(0.3 * most["value"])
    hardly = asked(0.9)
    assert hardly["low"] < hardly["value"] == hardly["high"] == pytest.approx(0.9 * most["value"])
    assert hardly["low"] == pytest.approx(most["low"], rel=0.01)
    hardly_not = asked(1.1, answer=1)
    assert hardly_not["low"] < hardly_not["value"] < hardly_not["high"]
    assert hardly_not["high"] == pytest.approx(1.1 * most["value"])
    # No more a second than come, ten in nine times what lies between two: the last is answered when its answer is made.
    ended = asked(0.5, "--num-prompts", 10)
    assert ended["low"] < ended["value"] < 0.5 * most["value"]
    assert ended["value"] < ended["high"] < 10 / 9 * 0.5 * most["value"]


def test_what_does_not_fit_is_said(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("--chip", "910B3", "--concurrency", 1, "--input-length", 30_000_000)
    found = _asked(capsys, config, *asked, answer=1)
    assert "refuses to start" in found["limits"]["refused"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input-length", "1000"], "--concurrency"),
        (["--max-num-seqs", "4"], "--concurrency"),
        (["--concurrency", "4", "--batch", "4"], "--batch"),
        (["--concurrency", "4", "--context", "4096"], "--context"),
        (["--concurrency", "4", "--phase", "train"], "--phase"),
        (["--concurrency", "4", "--phase", "prefill"], "--phase"),
        (["--concurrency", "4", "--pp", "2"], "--pp"),
        (["--concurrency", "4", "--measured-step", "40"], "--measured-step"),
        (["--concurrency", "4", "--micro-batch", "2"], "--micro-batch"),
        (["--concurrency", "0"], "--max-concurrency"),
        (["--rate", "often"], "--rate"),
        (["--rate", "0"], "--rate"),
        (["--rate", "inf"], "--concurrency"),
        (["--concurrency", "4", "--engine", "nobody"], "nobody"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    config: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["step", config, *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def _words(row: EngineRow, config: str, draft: str) -> list[object]:
    """What to type for the row."""
    told, requests = row.told, told_ask(row.told).requests
    words: list[object] = [
        config, "--chip", told["chip"], "--tp", told["tensor"], "--dp", told["data"], "--ep", told["expert"],
        "--weights", told["precision"], "--mtp", told["drafts"], "--engine", told["engine"],
        "--random-input-len", told["prompt"], "--random-output-len", told["output"],
        "--max-concurrency", told["batch"],
    ]  # fmt: skip
    words += [] if requests is None else ["--num-prompts", requests]
    for name, flag in (("most_tokens", "--max-num-batched-tokens"), ("most_sequences", "--max-num-seqs")):
        words += [flag, told[name]] if name in told else []
    words += ["--accepted", told["yielded"] - 1] if "yielded" in told else []
    words += ["--draft-model", draft] if "draft" in told else []
    words += ["--request-rate", told["rate"]] if "rate" in told else []
    flags = {"eager_drafts": "--eager-drafts", "even_routing": "--even-routing", "offline": "--offline"}
    flags["unequal"] = "--unequal-lengths"
    return [*words, *(flag for name, flag in flags.items() if told.get(name))]


def _figure(told: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    """What the command says of what the row measured."""
    if "ttft_ms" in told:
        return float(found["ttft_beside_others_ns"]["value"] / 1e6)
    if "tpot_ms" in told:
        return float(found["tpot_ns" if told.get("mean") else "tpot_without_prompts_ns"]["value"] / 1e6)
    return float(found["tokens_per_second"]["value"])


@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS.keys())
def test_what_a_public_row_measured_is_asked_with_one_line(
    name: str, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = engine_rows(shared_data, named=[name])[0]
    config, draft = row.told["config"], tmp_path / "draft.json"
    path = shared_data / config if isinstance(config, str) else tmp_path / "config.json"
    if not isinstance(config, str):
        path.write_text(json.dumps(config), "utf-8")
    draft.write_text(json.dumps(row.told.get("draft", {})), "utf-8")
    assert main(["step", *map(str, _words(row, str(path), str(draft))), "--json"]) in (0, 1)
    found = json.loads(capsys.readouterr().out)
    assert _figure(row.told, found) == pytest.approx(row.predicted(shipped_hosts()[row.engine, row.alone]), rel=1e-9)


def test_engines_read_prompts_as_rows_of_them_have_it() -> None:
    servers = json.loads(ROWS.read_text("utf-8"))["servers"]
    for name, engine in (("vllm-ascend", "vllm-ascend-eager"), ("SGLang", "sglang"), ("MindIE", "mindie")):
        assert prompt_steps(engine, None).mixes == bool(servers[name].get("mixes"))
