"""What a file is follows from its content, whatever it is called."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from importlib import resources
from pathlib import Path

import pytest

from memplan.core.errors import InputError
from memplan.readers.sniff import ContentKind, sniff

DATA = Path(__file__).with_name("data")
SAMPLES = Path(str(resources.files("memplan.samples")))
PROFILE = SAMPLES / "llama_train_profile" / "ASCEND_PROFILER_OUTPUT"

CACHE = {
    "graph_id": 3,
    "reused_memory_size": 1024,
    "tensors": [
        {"tensor_id": 0, "size": 1024, "ori_size": 9, "lifelong_value": 0, "life_start": 0, "life_end": 1, "offset": 0}
    ],
}
TEXTS = {
    ContentKind.STATIC_OP_MEM: "Op Name,Node Index Start,Node Index End,Size(KB)\na,0,1,4\n",
    ContentKind.GE_LOG: "[INFO] GE(1,atc): hello\n[INFO] GE(1,atc): [IMAS]Set g name[a] optype[B] output[0]\n",
    ContentKind.SOMAS_CACHE: json.dumps(CACHE, indent=1),
    ContentKind.CALIBRATION: json.dumps({"format": "memplan calibration", "version": 1}),
    ContentKind.MODEL_CONFIG: json.dumps({"architectures": ["LlamaForCausalLM"], "hidden_size": 64}),
    ContentKind.TEXT: "nothing that is known\n",
}


def known_files() -> list[tuple[Path, ContentKind]]:
    return [
        (SAMPLES / "cnn.mindir", ContentKind.MINDIR),
        (DATA / "perceptron.onnx", ContentKind.ONNX),
        (DATA / "graph_kernel.ir", ContentKind.KERNEL_IR),
        (DATA / "actor_set_cnn.ir", ContentKind.PLACED_ACTOR_SET),
        (DATA / "somas_cnn.ir", ContentKind.SOMAS),
        (SAMPLES / "llama_train.plan.json", ContentKind.PLAN),
        (SAMPLES / "example_config.json", ContentKind.MODEL_CONFIG),
        (PROFILE / "kernel_details.csv", ContentKind.PROFILE_FILE),
        (PROFILE / "trace_view.json", ContentKind.PROFILE_FILE),
    ]


@pytest.mark.parametrize("suffix", [".mindir", ".json", ".csv", ".txt", ""])
@pytest.mark.parametrize(("file", "kind"), known_files(), ids=lambda item: getattr(item, "name", None))
def test_the_name_does_not_matter(file: Path, kind: ContentKind, suffix: str, tmp_path: Path) -> None:
    copy = tmp_path / f"something{suffix}"
    shutil.copy(file, copy)
    assert sniff(copy) is kind


@pytest.mark.parametrize("suffix", [".json", ".csv", ".txt"])
@pytest.mark.parametrize("kind", TEXTS, ids=lambda kind: kind.name)
def test_texts_are_told_by_what_they_say(kind: ContentKind, suffix: str, tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-8-sig"):  # a spreadsheet puts a mark before the first byte
        file = tmp_path / f"{encoding}{suffix}"
        file.write_text(TEXTS[kind], encoding=encoding)
        assert sniff(file) is kind


def test_an_actor_set_holds_a_plan_only_where_somas_was_on(tmp_path: Path) -> None:
    text = (DATA / "actor_set_cnn.ir").read_text()
    (tmp_path / "off.ir").write_text(re.sub(r"\tsomas_offset:\d+\tsomas_aligned_size:\d+", "", text))
    kind = sniff(tmp_path / "off.ir")
    assert kind is ContentKind.ACTOR_SET
    assert kind.is_graph
    assert not kind.is_plan


def test_a_plan_whose_keys_were_sorted_by_another_tool_is_a_plan(tmp_path: Path) -> None:
    document = json.loads((SAMPLES / "llama_train.plan.json").read_text())
    file = tmp_path / "sorted.json"
    file.write_text(json.dumps({"chip": "x", "filler": "y" * 100_000, **document}, indent=2))
    assert sniff(file) is ContentKind.PLAN


def test_databases_pickles_and_packed_files_are_of_a_profile(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.bin") as database:
        database.execute("create table t (x)")
    (tmp_path / "b.bin").write_bytes(b"\x80\x04\x95")
    (tmp_path / "c.bin").write_bytes(b"\x1f\x8b\x08")
    assert {sniff(file) for file in tmp_path.iterdir()} == {ContentKind.PROFILE_FILE}


def test_where_a_profiles_file_says_nothing_its_name_does(tmp_path: Path) -> None:
    for name, kind in (("kernel_details.csv", ContentKind.PROFILE_FILE), ("other.csv", ContentKind.TEXT)):
        (tmp_path / name).write_text("damaged\n")
        assert sniff(tmp_path / name) is kind
    (tmp_path / "trace_view.json").write_text("[{")  # cut off
    assert sniff(tmp_path / "trace_view.json") is ContentKind.PROFILE_FILE


def test_a_folder_is_one_and_what_is_not_there_or_empty_is_an_error(tmp_path: Path) -> None:
    assert sniff(tmp_path) is ContentKind.FOLDER
    with pytest.raises(InputError, match="can't be read"):
        sniff(tmp_path / "missing")
    (tmp_path / "empty").touch()
    with pytest.raises(InputError, match="empty"):
        sniff(tmp_path / "empty")


def test_only_kinds_that_fit_are_planned_or_imported() -> None:
    assert ContentKind.SOMAS.is_graph
    assert ContentKind.SOMAS.is_plan
    assert ContentKind.PLAN.is_plan
    assert not ContentKind.PLAN.is_graph
    assert not ContentKind.CALIBRATION.is_plan
