"""The trained model as a plain folder: what transformers, vLLM and `s2d generate` take."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoTokenizer

from trainers.atomic_files import atomic_folder, remove_folder
from trainers.checkpoint import put_weights, trained_tensors
from trainers.config import TrainerConfig
from trainers.lora import ADAPTER_FOLDER, add_adapters
from trainers.sharding import gather
from trainers.student import Student, load_model

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


def save_final(student: Student, folder: Path, config: TrainerConfig, main: bool = True) -> None:
    """Write weights, config and the student's own tokenizer files, whole or not at all.

    Every process calls this, to give its shards if it has any; the main one writes.

    Adapters are merged in float32 into the weights that they were trained on, as those are stored,
    and kept beside the merged model in `adapter/`.
    """
    trained = gather(trained_tensors(student.model), keep=main)
    if not main:
        return
    model = load_model(student.base, torch.float32)
    adapted = add_adapters(model, config) if config.lora_rank else None
    put_weights(model, trained)
    if folder.exists():
        remove_folder(folder)
    with atomic_folder(folder) as scratch:
        if adapted is not None:
            adapters = scratch / ADAPTER_FOLDER
            # Looking for resized embeddings would ask the hub.
            adapted.save_pretrained(adapters, save_embedding_layers=False)
            (adapters / "README.md").unlink(missing_ok=True)  # A template without content.
            model = adapted.merge_and_unload()
        if config.save_precision == "student":
            model.to(_stored_type(config.student))
        model.save_pretrained(scratch)
        _copy_tokenizer(config.student, scratch)


def _stored_type(student: str) -> torch.dtype:
    stored: torch.dtype | None = AutoConfig.from_pretrained(student, trust_remote_code=False).dtype
    return stored or torch.float32


def _copy_tokenizer(student: str, folder: Path) -> None:
    source = Path(student)
    if not source.is_dir():
        tokenizer = AutoTokenizer.from_pretrained(student, trust_remote_code=False)
        tokenizer.save_pretrained(folder)
        return
    # Byte for byte: saving it anew may reorder files and change the tokenizer's fingerprint.
    for name in _TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
