"""How many tokens of KV cache a model leaves on one die, for three lengths of sequences."""

from importlib import resources
from pathlib import Path

from memplan.reports.kv.kv_report import kv_report
from memplan.requests.kv_request import KvRequest

config = Path(str(resources.files("memplan.samples").joinpath("example_config.json")))
for context in (8192, 32768, 131072):
    budget = KvRequest(config, chip="910B3", context=context, tp=2).case().budget()
    print(f"{context} tokens: {kv_report(budget).headline}")
