"""Command lines as engines have them: their options, their counts, files of options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.cli.app import main
from memplan.cli.engine_words import plain_words
from memplan.core.errors import InputError

CONFIG = {
    "model_type": "qwen3_moe", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 16, "head_dim": 64,
    "num_key_value_heads": 4, "moe_intermediate_size": 256, "intermediate_size": 2048, "num_experts": 16,
    "num_experts_per_tok": 2, "vocab_size": 32000, "max_position_embeddings": 65536, "torch_dtype": "bfloat16",
    "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": False, "norm_topk_prob": True,
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    return str(tmp_path)


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str]:
    assert main(["kv", "--json", *words]) == 0
    said = capsys.readouterr()
    found: dict[str, Any] = json.loads(said.out)
    return found, said.err


def test_a_served_model_is_the_same_budget(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["vllm", "serve", model, "--tensor-parallel-size", "4", "--data-parallel-size=2", "--enable-expert-parallel"]
    line += ["--max-model-len", "32K", "--gpu-memory-utilization", "0.9", "--max_num_batched_tokens", "4k"]
    line += ["--kv-cache-dtype", "auto", "--port", "8000", "--trust-remote-code", "--enforce-eager"]
    theirs, said = answer(capsys, "--chip", "910C", "--", *line)
    ours = ["--chip", "910C", model, "--tp", "4", "--dp", "2", "--ep", "8", "--context", "32768"]
    ours += ["--utilization", "0.9", "--max-num-batched-tokens", "4000", "--enforce-eager"]
    assert theirs == answer(capsys, *ours)[0]
    assert said == ""


def test_environment_and_python_m_may_stand_before(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"HCCL_BUFFSIZE=512 OMP_NUM_THREADS=1 python -m vllm.entrypoints.openai.api_server --model {model} -tp 2"
    theirs, _ = answer(capsys, "--", line)
    assert theirs == answer(capsys, model, "--tp", "2", "--hccl-buffsize", "512")[0]


def test_sglang_is_started_in_its_own_words(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = [
        "python3",
        "-m",
        "sglang.launch_server",
        "--model-path",
        model,
        "--tp-size",
        "2",
        "--context-length",
        "8192",
    ]
    line += [
        "--context-length",
        "8192",
        "--mem-fraction-static",
        "0.8",
        "--chunked-prefill-size",
        "2048",
        "--disable-radix-cache",
    ]
    theirs, _ = answer(capsys, "--", *line)
    assert theirs["engine"] == "sglang-0.5.23-npu"
    assert theirs["context"] == 8192
    said = {item["setting"]: item["value"] for item in theirs["settings"]}
    assert (said["static share"], said["tokens of one prefill"], said["prefix caching"]) == ("0.8", "2,048", "off")


def test_attention_in_data_parallelism_takes_none_of_the_dies_twice(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["python", "-m", "sglang.launch_server", "--model-path", model, "--tp", "8", "--context-length", "4096"]
    apart, said = answer(capsys, "--chip", "910C", "--", *line, "--dp", "4", "--enable-dp-attention")
    assert not said
    same, _ = answer(capsys, "--chip", "910C", "--", *line)

    def held(found: dict[str, Any], group: str) -> int:
        return next(int(item["nbytes"]) for item in found["items"] if item["name"] == f"weights: {group}")

    assert apart["dies"] == same["dies"] == 8
    assert held(apart, "lm_head") == held(same, "lm_head")
    assert held(apart, "experts") == held(same, "experts")
    assert held(apart, "embedding") == 4 * held(same, "embedding")
    refused = ["--chip", "910C", "--", *line, "--dp", "3", "--enable-dp-attention"]
    assert main(["kv", *refused]) == 2
    assert "do not divide" in capsys.readouterr().err


def test_what_means_nothing_here_is_said(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = answer(capsys, "--", "vllm", "serve", model, "--lora-modules", "a", "--swap-space", "4", "--port", "1")
    assert said == "memplan: no meaning for memory is known of --lora-modules, --swap-space: left out\n"


def test_options_of_several_values_are_no_models(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (
        ["vllm", "serve", model, "--served-model-name", "a", "b", "--max-model-len", "4k"],
        ["vllm", "serve", "--served-model-name", "a", "b", "--max-model-len", "4k", "--enable-what", model],
    )
    found = [answer(capsys, "--chip", "910C", "--", *line)[0] for line in lines]
    assert found[0] == found[1]


@pytest.mark.parametrize("option", ["-pcp", "--prefill-context-parallel-size", "--kv-cache-dtype-skip-layers"])
def test_what_moves_bytes_and_is_not_planned_is_refused(
    option: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kv", "--chip", "910C", "--", "vllm", "serve", model, option, "2"]) == 2
    assert f"{option} is not planned: " in capsys.readouterr().err
    answer(capsys, "--chip", "910C", "--", "vllm", "serve", model, "-pcp", "1")


@pytest.mark.parametrize("words", [["--max-model-len", "auto"], ["--max-model-len=-1"], ["--max-model-len", "-1"]])
def test_the_longest_that_fits_is_asked_for(words: list[str], model: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["vllm", "serve", model, "--kv-cache-memory-bytes", "64MiB", *words]
    found, said = answer(capsys, "--chip", "910C", "--engine", "vllm-0.33.0-h100", "--", *line)
    assert not said
    assert 0 < found["context"] < CONFIG["max_position_embeddings"]
    assert found["context"] * found["bytes_per_token"] <= 64 << 20


def test_types_that_change_the_weights_are_said(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["vllm", "serve", model, "--max-model-len", "4k"]
    _, said = answer(capsys, "--chip", "910C", "--", *line, "--quantization", "fp8", "--dtype", "float32")
    assert "--quantization fp8, --dtype float32" in said
    _, said = answer(capsys, "--chip", "910C", "--", *line, "--quantization", "ascend", "--dtype", "bfloat16")
    assert not said


def test_what_stands_beside_the_engine_s_line_wins(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = answer(capsys, "--tp", "4", "--", "vllm", "serve", model, "--tensor-parallel-size", "2")
    assert found["layout"]["tensor"] == 4


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["vllm", "bench"], "starts no engine that is known"),
        (["vllm", "serve"], "names 0 models, not one"),
        (["vllm", "serve", "Qwen/Qwen3-8B"], "no file or folder is called 'Qwen/Qwen3-8B'"),
        (["vllm", "serve", ".", "--speculative-config", "{"], "is no JSON"),
    ],
)
def test_lines_that_start_nothing_are_one_line(line: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", "--", *line]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "meant"), [("32k", "32000"), ("32K", "32768"), ("1.5k", "1500"), ("1M", "1048576"), ("77", "77")]
)
def test_counts_are_read_as_vllm_reads_them(given: str, meant: str) -> None:
    assert plain_words(["kv", "m", "--max-model-len", given]).words[-1] == meant
    assert plain_words(["step", "m", f"--context={given}"]).words[-1] == f"--context={meant}"


def test_only_counts_are_counts() -> None:
    assert plain_words(["kv", "m.json", "--chip", "32k"]).words[-1] == "32k"
    with pytest.raises(InputError, match="no whole number"):
        plain_words(["kv", "m", "--context", "0.0001k"])


def test_a_file_of_options_is_less_than_the_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "serve.toml"
    path.write_text('tp = 2\nchip = "910C"\n[kv]\nmax_model_len = "16K"\nasync-scheduling = false\n[fit]\nnpus = 3\n')
    found, _ = answer(capsys, model, "-c", str(path))
    assert (found["layout"]["tensor"], found["context"]) == (2, 16_384)
    assert {item["setting"]: item["value"] for item in found["settings"]}["asynchronous scheduling"] == "off"
    assert answer(capsys, model, f"--config={path}", "--tp", "4")[0]["layout"]["tensor"] == 4


@pytest.mark.parametrize(("text", "said"), [("tp = ", "this is no TOML"), ("tp = 2024-01-01", "neither a text")])
def test_a_file_that_is_none_is_one_line(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(text)
    assert main(["kv", model, "-c", str(path)]) == 2
    assert said in capsys.readouterr().err
    assert main(["kv", model, "-c", str(tmp_path / "none.toml")]) == 2


def test_memory_and_blocks_of_the_cache_can_be_given(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    found, _ = answer(capsys, model, "--kv-cache-memory-bytes", "4GiB")
    assert found["available_bytes"] == 4 << 30
    assert found["pool"]["num_blocks"] == (4 << 30) // found["pool"]["planned_per_block"]
    found, _ = answer(capsys, model, "--num-gpu-blocks-override", "777")
    assert found["pool"]["num_blocks"] == 777


@pytest.mark.parametrize(
    "config",
    [
        {"method": "eagle3", "model": "another/model", "num_speculative_tokens": 3},
        {"method": "suffix", "num_speculative_tokens": 3},
        {"model": "another/model", "num_speculative_tokens": 2},
    ],
)
def test_drafts_of_others_do_not_stop_a_budget(
    model: str, capsys: pytest.CaptureFixture[str], config: dict[str, Any]
) -> None:
    """Went wrong once: a model without drafts of its own was refused, in one of eight public command lines."""
    line = ["vllm", "serve", model, "--speculative-config", json.dumps(config)]
    theirs, said = answer(capsys, "--", *line)
    assert theirs == answer(capsys, model)[0]
    # What is missing of drafts that could be planned is their config, not a meaning.
    assert ("no config.json at hand" in said) == (config.get("method") != "suffix")
    assert "--speculative-config" in said
    own = ["vllm", "serve", model, "--speculative-config", '{"method": "deepseek_mtp", "num_speculative_tokens": 1}']
    assert main(["kv", "--", *own]) == 2
    assert "has no layers of multi-token prediction" in capsys.readouterr().err


def test_drafts_take_the_model_s_own_number_of_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Went wrong once: left open, no token was drafted and no layer for it planned."""
    config = {**CONFIG, "model_type": "glm4_moe", "num_nextn_predict_layers": 1, "n_routed_experts": 16}
    config |= {"first_k_dense_replace": 1, "n_shared_experts": 1, "use_qk_norm": True, "attention_bias": False}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    line = ["vllm", "serve", str(tmp_path), "--speculative-config"]
    left, _ = answer(capsys, "--", *line, '{"method": "mtp"}')
    told, _ = answer(capsys, "--", *line, '{"method": "mtp", "num_speculative_tokens": 1}')
    plain, _ = answer(capsys, str(tmp_path))
    assert left == told
    assert left["pool"]["planned_per_block"] > plain["pool"]["planned_per_block"]
    assert main(["kv", "--", *line, '{"method": "dspark"}']) == 2
    assert "has no stages of DSpark" in capsys.readouterr().err


def test_drafts_of_a_model_at_hand_are_planned(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A layer of EAGLE keeps keys and values beside the target's four; n-grams keep none."""
    draft = {
        "model_type": "llama", "architectures": ["LlamaForCausalLMEagle3"], "hidden_size": 1024, "num_hidden_layers": 1,
        "num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 64, "intermediate_size": 4096,
        "vocab_size": 151936, "draft_vocab_size": 32000, "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
        "rope_theta": 500000.0, "tie_word_embeddings": False,
    }  # fmt: skip
    path = tmp_path / "eagle3.json"
    path.write_text(json.dumps(draft), "utf-8")
    plain, _ = answer(capsys, model)
    config = {"method": "eagle3", "model": str(path), "num_speculative_tokens": 3}
    drafted, said = answer(capsys, "--", "vllm", "serve", model, "--speculative-config", json.dumps(config))
    assert said == ""
    block, more = (found["pool"]["planned_per_block"] for found in (plain, drafted))
    assert more == block * 5 // 4
    given = ["--draft-model", str(path), "--draft-method", "eagle3", "--num-speculative-tokens", "3"]
    assert answer(capsys, model, *given)[0] == drafted
    # Its projection, norms, attention that reads twice the width, feed-forward part, and the head for fewer words.
    attention = (16 + 2 * 4) * 64 * 2048 + 1024 * 1024
    own = 3 * 1024 * 1024 + 4 * 1024 + attention + 3 * 1024 * 4096 + 32000 * 1024
    weights = [sum(one["nbytes"] for one in found["items"] if one["part"] == "weights") for found in (plain, drafted)]
    assert weights[1] - weights[0] == 2 * own
    config = {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_max": 3}
    looked_up, said = answer(capsys, "--", "vllm", "serve", model, "--speculative-config", json.dumps(config))
    assert said == ""
    assert looked_up["pool"] == plain["pool"]
    assert main(["kv", model, "--draft-method", "eagle", "--num-speculative-tokens", "1"]) == 2
    assert "--draft-model" in capsys.readouterr().err


SERVED = ["--tensor-parallel-size", "2", "--enable-expert-parallel", "--no-async-scheduling"]


def stepped(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[dict[str, Any], str]:
    assert main(["step", "--json", "--chip", "910B3", *words]) == 0
    said = capsys.readouterr()
    found: dict[str, Any] = json.loads(said.out)
    return found, said.err


def test_a_step_is_asked_in_the_words_of_its_engine(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is about memory alone changes no step; what would change what is asked is said."""
    line = ["vllm", "serve", model, *SERVED, "--kv-cache-dtype", "auto", "--gpu-memory-utilization", "0.9"]
    line += ["--compilation-config", '{"cudagraph_mode": "PIECEWISE", "cudagraph_capture_sizes": [1, 2]}']
    theirs, said = stepped(capsys, "--batch", "4", "--", *line, "--block-size", "128", "--port", "1")
    asked = ["--tp", "2", "--ep", "2", "--no-async-scheduling", "--cudagraph-mode", "PIECEWISE", "--batch", "4"]
    assert (theirs, said) == stepped(capsys, model, *asked)
    assert theirs["engine"] == "vllm-ascend-piecewise"
    _, said = stepped(capsys, "--", *line, "--max-model-len", "32k", "--max-num-seqs", "16", "--lora-modules", "a")
    assert "for a step is known of --lora-modules, --max-model-len, --max-num-seqs: left out" in said
    eager, _ = stepped(capsys, "--", "sglang", "serve", "--model-path", model, "--disable-cuda-graph")
    assert eager["engine"] == "sglang-eager"
    named, _ = stepped(capsys, "--engine", "v0.18.0", "--", "vllm", "serve", model)
    assert named["engine"] == "vllm-ascend-0.18.0"


def test_requests_at_once_are_asked_in_the_words_of_their_engine(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sequences and tokens of a step limit what runs at once."""
    asked = ["--concurrency", "8", "--input-length", "256", "--output-length", "64"]
    line = ["vllm", "serve", model, *SERVED, "--max-num-seqs", "4", "--max-num-batched-tokens", "1k"]
    theirs, said = stepped(capsys, *asked, "--", *line, "--max-model-len", "4k")
    assert said.endswith("--max-model-len: left out\n")
    own = [*SERVED, "--max-num-seqs", "4", "--max-num-batched-tokens", "1000"]
    assert theirs == stepped(capsys, model, *asked, *own)[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--speculative-config", '{"method": "suffix", "num_speculative_tokens": 3}'],
            "or give --mtp N",
        ),
        (
            ["--speculative-config", '{"method": "eagle3", "model": "another/model", "num_speculative_tokens": 3}'],
            'no config.json at hand); leave it out, or give --mtp N for layers of the model\'s own, or for "model"',
        ),
        (["--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}'], "a look-up takes no step"),
        (["--attention-backend", "FLASH_ATTN"], "have the operator of the engine's release"),
        (
            ["--eplb-config", '{"num_redundant_experts": 2}'],
            "--redundant-experts 2; leave it out, or give --even",
        ),
        (["-pcp", "2"], "is not planned"),
        (["--kv-cache-dtype", "fp8_ds_mla"], "fp8_ds_mla"),
    ],
)
def test_a_step_refuses_what_it_can_t_be_told(
    words: list[str], said: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["step", "--", "vllm", "serve", model, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert main(["step", "--", "vllm", "bench"]) == 2
    assert "write step -- vllm serve MODEL" in capsys.readouterr().err


def test_drafts_of_a_served_step_are_launched_as_its_engine_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {**CONFIG, "model_type": "glm4_moe", "num_nextn_predict_layers": 1, "n_routed_experts": 16}
    config |= {"first_k_dense_replace": 1, "n_shared_experts": 1, "use_qk_norm": True, "attention_bias": False}
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    line = ["--", "vllm", "serve", str(tmp_path), "--speculative-config"]
    for eager, own in ((False, []), (True, ["--eager-drafts"])):
        told = json.dumps({"method": "mtp", "num_speculative_tokens": 1, "enforce_eager": eager})
        assert stepped(capsys, *line, told)[0] == stepped(capsys, str(tmp_path), "--mtp", "1", *own)[0]


def test_what_only_the_shell_knows_is_refused_as_such(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for line in (["vllm", "serve", model, "-tp", "$3"], ["vllm", "serve", model, "${MORE_ARGS[@]}", "-tp", "2"]):
        assert main(["kv", "--", *line]) == 2
        assert "stands for something that only the shell knows" in capsys.readouterr().err


def test_types_of_index_keys_and_of_states_are_taken_over(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As recipes of vllm-ascend write them; the bytes are those of its planner (sparse keys of 132 for 256 bytes)."""

    def served(name: str, *words: str) -> dict[str, Any]:
        (tmp_path / "config.json").write_bytes((shared_data / "configs" / f"{name}.json").read_bytes())
        line = [
            "vllm",
            "serve",
            str(tmp_path),
            "-tp",
            "16",
            "--enable-expert-parallel",
            "--max-model-len",
            "16384",
            *words,
        ]
        return answer(capsys, "--chip", "910C", "--engine", "vllm-ascend-0.30.0rc2", "--weights", "w4a8", "--", *line)[
            0
        ]

    plain = served("zai-org--GLM-5.2")["pool"]["bytes_per_block"]
    for words in (
        ["--attention-config.indexer-kv-dtype", "int8"],
        ["--attention-config", '{"indexer_kv_dtype": "int8"}'],
    ):
        assert plain - served("zai-org--GLM-5.2", *words)["pool"]["bytes_per_block"] == 21 * 128 * (256 - 130)
    wide, narrow = (
        served("Qwen--Qwen3.5-35B-A3B", "--mamba-ssm-cache-dtype", kept)["pool"] for kept in ("float32", "float16")
    )
    assert wide["bytes_per_block"] > narrow["bytes_per_block"]
    assert main(["kv", str(tmp_path), "--mamba-ssm-cache-dtype", "fp4"]) == 2
    assert "recurrent states of type 'fp4' are not supported" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["1.0001k", "9" * 400 + "k"])
def test_a_count_that_is_none_is_one_line(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kv", "m", "--max-model-len", given]) == 2
    said = capsys.readouterr().err
    assert "is no whole number" in said
    assert len(said) < 200
