"""config.json of a saved model: what s2d reads of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from s2d_store.errors import InputError
from s2d_store.policies.weights import Parameters

# How model families name the experts of a layer, and those that one token is routed to.
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_USED = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "experts_per_token",
    "top_k_experts",
    "moe_top_k",
)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a saved model.

    Raises:
        InputError: there is none, or it is malformed.
    """
    path = folder / "config.json"
    if not path.is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise InputError(
            f"{folder} lacks config.json",
            why="it holds an adapter, not a whole model" if adapter else "it is no saved model",
            fix=("merge the adapter, then " if adapter else "save one there: ")
            + f"model.save_pretrained({str(folder)!r})",
        )
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file.

    Raises:
        InputError: it is malformed.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(
            f"{path} is not valid JSON", why=str(error), fix="save it again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no JSON object", fix="save it again")
    return content


def text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that describes the language model."""
    nested = config.get("text_config")
    return nested if isinstance(nested, dict) else config


def tied(config: dict[str, Any]) -> bool:
    """Whether the output projection shares the input embedding."""
    text = text_config(config)
    return bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))


def vocab_size(folder: Path, config: dict[str, Any], rows: int | None) -> int:
    """Size of the output distribution.

    Args:
        folder: named in errors.
        config: its config.json.
        rows: rows of the saved embedding, where they are known.

    Raises:
        InputError: the config does not say, or says something else than the weights.
    """
    path = folder / "config.json"
    size = text_config(config).get("vocab_size", config.get("vocab_size"))
    if not isinstance(size, int):
        raise InputError(
            f"{path} has no vocab_size",
            why="the model is not a causal language model that s2d can use",
            fix="give a model saved by AutoModelForCausalLM.save_pretrained",
        )
    if rows is not None and rows != size:
        raise InputError(
            f"{path} has vocab_size {size}, which its weights do not have",
            why=f"the saved embedding has {rows} rows",
            fix=f"correct vocab_size to {rows}, or save config and weights together again",
        )
    return size


def attention_width(config: dict[str, Any]) -> int | None:
    """Layers x heads x head size, of the layers whose tokens look at each other's.

    None where the config does not say. Windows count as full attention.
    """
    text = text_config(config)

    def size(name: str) -> int:
        value = text.get(name)
        return value if isinstance(value, int) else 0

    layers, heads = size("num_hidden_layers"), size("num_attention_heads")
    kinds = text.get("layer_types")
    if isinstance(kinds, list):
        layers = sum("attention" in str(kind) and "linear" not in str(kind) for kind in kinds)
    keys = size("head_dim") or size("qk_nope_head_dim") + size("qk_rope_head_dim")
    if not heads or not (keys or size("hidden_size")):
        return None
    keys = keys or size("hidden_size") // heads
    # Half of the work is with keys, half with values.
    return layers * heads * (keys + (size("v_head_dim") or keys)) // 2


def active_parameters(config: dict[str, Any], parameters: Parameters) -> int | None:
    """Parameters that one token uses: of routed experts only those that it is routed to.

    None where the model has experts and the config does not say how many a token uses.
    """
    if not parameters.in_experts:
        return parameters.count
    text = text_config(config)
    experts = next((text[name] for name in EXPERTS if isinstance(text.get(name), int)), 0)
    used = next((text[name] for name in EXPERTS_USED if isinstance(text.get(name), int)), 0)
    if not 0 < used <= experts:
        return None
    return parameters.count - parameters.in_experts + parameters.in_experts * used // experts
