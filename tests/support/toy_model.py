"""A model with the toy tokenizer of the dumps: random weights, the same 20 tokens and template."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.support.dump_rows import dumps
from tests.support.tiny_models import save_tiny_model


def save_toy_model(folder: Path) -> Path:
    """Write a tiny model whose tokenizer is that of the dumps; skips where there are none."""
    tokenizer = dumps() / "toy-tokenizer"
    save_tiny_model(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink(missing_ok=True)
        shutil.copy(tokenizer / name, folder)
    return folder


def save_toy_prompts(path: Path) -> Path:
    """The three prompts of the toy model's dumps with their gold answers, as JSONL."""
    lines = (dumps() / "verl" / "rollout" / "2.jsonl").read_text().splitlines()
    answers = {row["input"]: row["gts"] for row in map(json.loads, lines)}
    rows = [{"prompt": prompt, "answer": answer} for prompt, answer in answers.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
