"""
Megatron-core's own configuration asked to take exported arguments; run by the Python of a venv that has it.

Arguments of Megatron-LM are fields of the configurations of its core under the same names, with underscores; the
parser itself is not in the package. Reads a JSON line for each export, `{"arguments": [...]}`, and answers with the
fields that it set, those that are no field of any configuration, or the words of refusal of `TransformerConfig`.
"""

import dataclasses
import json
import sys

import torch
from megatron.core.distributed import DistributedDataParallelConfig
from megatron.core.optimizer import OptimizerConfig
from megatron.core.transformer.transformer_config import TransformerConfig

# Arguments that configure no part of the core: batches and lengths of the training loop, and names it gives to fields.
LOOP = {"seq_length", "max_position_embeddings", "micro_batch_size", "global_batch_size", "bf16",
        "num_virtual_stages_per_pipeline_rank", "cross_entropy_loss_fusion", "use_megatron_fsdp"}  # fmt: skip
NUMBERS = {"bf16": torch.bfloat16}


def pairs(words):
    found = {}
    for word in words:
        if word.startswith("--"):
            name = word[2:].replace("-", "_")
            found[name] = True
        elif isinstance(found[name], list):
            found[name].append(word)
        elif name == "recompute_modules":
            found[name] = [word] if found[name] is True else [found[name], word]
        else:
            found[name] = int(word) if word.isdigit() else NUMBERS.get(word, word)
    return found


def answer(words):
    given = pairs(words)
    fields = {kind: {field.name for field in dataclasses.fields(kind)}
              for kind in (TransformerConfig, OptimizerConfig, DistributedDataParallelConfig)}  # fmt: skip
    unknown = [name for name in given if name not in LOOP and not any(name in names for names in fields.values())]
    if unknown:
        return {"refused": f"no configuration has {unknown}"}
    own = {kind: {name: value for name, value in given.items() if name in names} for kind, names in fields.items()}
    try:
        made = TransformerConfig(
            num_layers=8, hidden_size=512, num_attention_heads=8, pipeline_dtype=torch.bfloat16, bf16=True,
            **{name: value for name, value in own[TransformerConfig].items() if name != "bf16"},
        )  # fmt: skip
        OptimizerConfig(optimizer="adam", lr=1e-4, **own[OptimizerConfig])
        DistributedDataParallelConfig(**own[DistributedDataParallelConfig])
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"[:400]}
    return {"understood": {name: getattr(made, name) for name in own[TransformerConfig]}}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line)["arguments"]), default=str), flush=True)
