"""Parameters of every family against transformers on the meta device, where transformers is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memplan.models import load_config, parameter_counts

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

HERE = Path(__file__).parent
CONFIGS: dict[str, Any] = {
    **json.loads((HERE / "described.json").read_text(encoding="utf-8"))["families"],
    **{
        name: row
        for name, row in json.loads((HERE / "families.json").read_text(encoding="utf-8")).items()
        if name not in ("source", "kimi_k3")
    },
}
NOT_THEIRS = frozenset({"longcat_flash", "deepseek_v3-nolora", "step3p5", "step3p5-windows"})
"""
transformers gives LongCat's idle experts weights of their own, takes a rank left out as 1536, and has Step-3.5 only as
a part of Step-3.7 that its automatic classes don't make.
"""


@pytest.mark.slow
@pytest.mark.parametrize("vocabulary", [None, 300_000])
@pytest.mark.parametrize("name", sorted(set(CONFIGS) - NOT_THEIRS))
def test_parameters_equal_those_on_the_meta_device(name: str, vocabulary: int | None) -> None:
    config = dict(CONFIGS[name]["config"])
    if vocabulary is not None:
        config["vocab_size"] = vocabulary
    known = transformers.AutoConfig.for_model(**config)
    with torch.device("meta"):
        try:
            model, headless = transformers.AutoModelForCausalLM.from_config(known), False
        except ValueError:
            model, headless = transformers.AutoModel.from_config(known), True
    ours = load_config(config)
    total = sum(parameter.numel() for parameter in model.parameters())
    if headless and not ours.tied_embeddings:
        total += ours.vocab_size * ours.hidden_size
    assert parameter_counts(ours).total == total
