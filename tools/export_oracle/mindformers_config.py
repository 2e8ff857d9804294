"""
mindformers' own configuration loader asked to take exported YAML; run by the Python of a venv that has it.

Reads a JSON line for each export, `{"yaml": "...", "pynative": false}`, and answers with what was understood, or its
words of refusal. In graph mode the loader keeps what it reads; names that no published configuration of the package
has, and no class of it that is made from a part of the configuration, are refused here.
"""

import ast
import json
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import yaml

CLASSES = {"swap_config": ("mindformers/modules/transformer/transformer.py", "TransformerSwapConfig")}


def parameters():
    """Names of keys, by their path, that classes take which are made from a part of the configuration."""
    for part, (file, name) in CLASSES.items():
        tree = ast.parse(Path(metadata.distribution("mindformers").locate_file(file)).read_text(encoding="utf-8"))
        made = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        init = next(node for node in made.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
        yield (part,)
        yield from ((part, argument.arg) for argument in init.args.args[1:])


def published():
    """Names of keys, by their path, in the configurations that the package ships."""
    found = set()

    def walk(value, path):
        if isinstance(value, dict):
            for key, below in value.items():
                found.add((*path, key))
                walk(below, (*path, key))

    for file in metadata.files("mindformers"):
        if str(file).endswith(".yaml") and "configs" in str(file):
            try:
                walk(yaml.safe_load(Path(file.locate()).read_text(encoding="utf-8")), ())
            except yaml.YAMLError:
                continue
    return found


def keys(document, path=()):
    for key, value in document.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from keys(value, (*path, key))


def value(document, path):
    for key in path:
        document = document[key]
    return None if isinstance(document, dict) else document


def answer(asked, known):
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "plan.yaml")
            path.write_text(asked["yaml"], encoding="utf-8")
            if asked["pynative"]:
                from mindformers.pynative.config import config as pynative

                parts = {
                    "context": pynative.ContextConfig, "parallelism": pynative.ParallelismConfig,
                    "training": pynative.TrainingConfig, "recompute": pynative.RecomputeConfig,
                    "swap": pynative.SwapConfig,
                }  # fmt: skip
                document = yaml.safe_load(asked["yaml"])
                return {"understood": {name: parts[name](**values).__dict__ for name, values in document.items()}}
            from mindformers.tools.register.config import MindFormerConfig

            read, told = MindFormerConfig(str(path)), yaml.safe_load(asked["yaml"])
            unknown = [".".join(key) for key in keys(told) if key not in known]
            if unknown:
                return {"refused": f"no published configuration has {unknown}"}
            lost = [".".join(key) for key in keys(told) if value(told, key) != value(read, key)]
            return {"refused": f"read otherwise: {lost}"} if lost else {"understood": told}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:400]}


if __name__ == "__main__":
    names = published().union(parameters())
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), names), default=str), flush=True)
