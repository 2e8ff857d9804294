"""
torchtitan's own configuration asked to take exported settings; run by the Python of a venv that has it.

Reads a JSON line for each export: `{"arguments": [...]}` for a version that is told by arguments, `{"toml": "..."}`
for one that reads a file. Answers with what it understood, or its words of refusal.
"""

import dataclasses
import json
import sys
import tempfile

# Kernels come with the configuration's imports; a CPU's torch has no compiler for them, and looks for one only once.
try:
    import torchtitan.config  # noqa: F401 - to have it loaded
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "triton":
        raise


def by_file(text):
    from torchtitan.config import ConfigManager

    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        job = ConfigManager().parse_args([f"--job.config_file={file.name}"])
    return {name: dataclasses.asdict(getattr(job, name)) for name in ("parallelism", "training")}


def by_arguments(words):
    import tyro
    from torchtitan.config import ParallelismConfig, TrainingConfig

    # The configuration of a job is made of a registered model's; these are its two parts that a plan decides.
    job = dataclasses.make_dataclass(
        "Job",
        [
            ("parallelism", ParallelismConfig, dataclasses.field(default_factory=ParallelismConfig)),
            ("training", TrainingConfig, dataclasses.field(default_factory=TrainingConfig)),
        ],
    )
    found = tyro.cli(job, args=words)
    return {name: dataclasses.asdict(getattr(found, name)) for name in ("parallelism", "training")}


def answer(asked):
    try:
        return {"understood": by_file(asked["toml"]) if "toml" in asked else by_arguments(asked["arguments"])}
    except (Exception, SystemExit) as error:
        return {"refused": f"{type(error).__name__}: {error}"[:400]}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)), default=str), flush=True)
