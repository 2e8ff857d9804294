"""Every block of code in the README and the pages runs as it stands, on files with the names that it gives."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

import memplan
from memplan.cli import main
from memplan.cli.app import command_app
from memplan.models import load_config
from memplan.models.parallel import Layout
from memplan.models.training.step_recipe import Recipe
from memplan.simulator import simulate
from tests.traces.excerpts import snapshot

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

TOP = Path(__file__).resolve().parents[1]
CHINESE = TOP / "docs" / "zh"  # has the blocks of the English pages (`tests/test_docs.py`), which run
PAGES = [TOP / "README.md", *(page for page in sorted((TOP / "docs").rglob("*.md")) if CHINESE not in page.parents)]
SAMPLES = TOP / "memplan" / "samples"
MODEL = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 32000,
    "max_position_embeddings": 40960,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
OOM = "Call rtMalloc fail, purpose: page caching, type = 2, size:3221291008, device_id:0[FUNC:Alloc]"


@dataclass(frozen=True)
class Block:
    """One block: its page, line and language, and what stands in it."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(language: str) -> list[Block]:
    found: list[Block] = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```([\w-]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 2
            found += [Block(page, line, language, match[2])] if match[1] == language else []
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "config.json").write_text(json.dumps(MODEL))
    (folder / "MODEL").mkdir()  # as the pages call the folder of a model
    shutil.copy(folder / "config.json", folder / "MODEL")
    shutil.copy(SAMPLES / "cnn.mindir", folder / "model.mindir")
    model, recipe = load_config(folder / "config.json"), Recipe(512, 2, 2)
    plan = memplan.plan(model, phase="train", layout=Layout(tensor=2, data=2), recipe=recipe, chip="910B3")
    plan.save(folder / "plan.json")
    for name, seed in (("rank_0_ascend_pt", 1), ("before_ascend_pt", 2), ("after_ascend_pt", 3)):
        simulate(plan, folder / name, steps=3, seed=seed)
    for name, ranks in (("run_ascend_pt", (0, 3)), ("run", (0, 1))):
        for rank in ranks:
            simulate(plan, folder / name / f"rank{rank}_ascend_pt", steps=4, seed=rank, rank=rank)
    snapshot(folder).rename(folder / "snapshot.pickle")
    (folder / "train.log").write_text(f"INFO loading\n{OOM}\n")
    return folder


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_commands_run(
    block: Block, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    shutil.copytree(files, here)
    monkeypatch.chdir(here)
    monkeypatch.setenv("MEMPLAN_CACHE_DIR", str(tmp_path / "cache"))
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.replace("/tmp/", f"{tmp_path}/"), comments=True)
        if not words:
            continue
        if words[0] == "cd":
            shutil.copytree(TOP / words[1], here / words[1], ignore=shutil.ignore_patterns("__pycache__"))
            monkeypatch.chdir(here / words[1])
        elif words[:2] == ["pip", "install"]:
            assert_installable(words[2:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (TOP / "Makefile").read_text(), re.MULTILINE)
        elif words[:2] in (["memplan", "gui"], ["memplan", "mcp"]):
            assert_parsed(words[1:])  # they run until somebody ends them
        else:
            assert words[0] == "memplan", f"{block}: nobody runs {line!r}"
            code = main(words[1:])
            assert code in (0, 1), f"{block}: {line}\n{capsys.readouterr().err}"


def assert_installable(words: list[str]) -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        wanted = re.fullmatch(r"(?:\.|memplan)(?:\[([\w,]+)\])?", word)
        assert wanted, f"nobody can install {word!r}"
        assert set((wanted[1] or "").split(",")) - {""} <= set(project["optional-dependencies"])


def assert_parsed(words: list[str]) -> None:
    group = typer.main.get_command(command_app(words))
    group.make_context("memplan", words, resilient_parsing=False).close()


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(block: Block, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.strip() for line in block.text.splitlines() if line.strip()]
    whole = [script for script in sorted((TOP / "examples").glob("*.py")) if holds(script, lines)]
    if whole:
        return  # lines of an example, which a test of its own runs
    here = tmp_path / "here"
    shutil.copytree(files, here)
    monkeypatch.chdir(here)
    exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})


def holds(script: Path, lines: list[str]) -> bool:
    """Whether `script` has all of `lines`, one after the other."""
    return "\n".join(lines) in "\n".join(line.strip() for line in script.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("block", blocks("json"), ids=str)
def test_json_is_json(block: Block) -> None:
    text = block.text.strip()
    document = json.loads(text if text.startswith(("{", "[")) else f"{{{text}}}")
    assert document


def test_no_block_is_left_out() -> None:
    known = {"sh", "python", "json", "toml"}
    for page in PAGES:
        languages = re.findall(r"^```([\w-]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(languages) <= known, f"{page.name}: nobody runs {set(languages) - known}"
    for block in blocks(""):
        assert not re.search(r"^(memplan|pip|make|import|from) ", block.text, re.MULTILINE), f"{block} is code"


def test_bare_blocks_are_found() -> None:
    assert {block.page.name for block in blocks("")} >= {"architecture.md", "cost.md"}


EXAMPLES = sorted((TOP / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.name)
def test_examples_run(script: Path, tmp_path: Path) -> None:
    for needed in re.findall(r"^import (mindspore|torch)\b", script.read_text(encoding="utf-8"), re.MULTILINE):
        pytest.importorskip(needed)
    run = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout
