"""
Configuration classes for models whose own come with their checkpoint, which no config.json holds.

For the Pythons of venvs that hold an engine: the fields of the file are attributes, objects in it configurations.
"""

from typing import Any

LATER_NAMES = {
    "num_hidden_layers": ("num_layers", "n_layer", "n_layers"),
    "num_attention_heads": ("n_head", "n_heads"),
    "num_key_value_heads": ("num_attention_groups", "multi_query_group_num"),
    "intermediate_size": ("ffn_hidden_size",),
    "max_position_embeddings": ("seq_length", "max_seq_len"),
    "rms_norm_eps": ("layer_norm_epsilon", "layernorm_epsilon"),
}
"""The names by which engines read a field that files also have under others, as attribute maps of such classes do."""

DEFAULTS = {
    "tie_word_embeddings": True, "rope_theta": 10_000.0, "rope_scaling": None, "hidden_act": "silu",
    "initializer_range": 0.02,
}  # fmt: skip
"""What the classes say where a file does not."""


def types_of(document: Any) -> list[str]:
    """The model types that a config.json names, its own first, those of the objects in it after."""
    if not isinstance(document, dict):
        return []
    own = [document["model_type"]] if isinstance(document.get("model_type"), str) else []
    return own + [name for value in document.values() for name in types_of(value)]


def class_of(model_type: str) -> type:
    """A class of configurations of `model_type`."""
    from transformers import CONFIG_MAPPING, PretrainedConfig

    class PublishedConfig(PretrainedConfig):
        def __init__(self, **given):
            for name, value in given.items():
                if isinstance(value, dict) and name.endswith("_config") and name != "quantization_config":
                    inner = value.get("model_type")
                    known = CONFIG_MAPPING[inner] if inner in CONFIG_MAPPING else class_of(str(inner))
                    given[name] = known(**value)
            if given.get("use_sliding_window") is False:
                # As classes that extend Qwen2Config have it.
                given["sliding_window"] = None
            super().__init__(**given)
            if hasattr(self, "hidden_size"):
                for name, others in LATER_NAMES.items():
                    found = next((given[other] for other in others if other in given), None)
                    if found is not None and name not in given:
                        setattr(self, name, found)
                for name, value in DEFAULTS.items():
                    if not hasattr(self, name):
                        setattr(self, name, value)

        def get_text_config(self, **_):
            names = ("text_config", "llm_config", "language_config")
            return next((getattr(self, name) for name in names if hasattr(self, name)), self)

    PublishedConfig.model_type = model_type
    return PublishedConfig


def register(document: dict[str, Any]) -> None:
    """Make the framework know every model type that `document` names."""
    from transformers import CONFIG_MAPPING, AutoConfig
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    for model_type in types_of(document):
        if model_type not in CONFIG_MAPPING and model_type not in _CONFIG_REGISTRY:
            AutoConfig.register(model_type, class_of(model_type))
