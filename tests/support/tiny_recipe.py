"""A recipe of every kind of stage on tiny models: for tests that run it, tests that refuse it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

RECIPE = """
name = "tiny"
store = "{place}/store"
output = "{place}/policies"
verifier = "my_verifiers:Length"
verify_workers = 1

[prompts.train]
file = "{questions}"
source = "sums"

[prompts.test]
file = "{test}"
source = "sums"

[policies]
teacher = "{teacher}"
student = "{student}"

[defaults.generate]
max_tokens = 6
n = 2

[defaults.train]
lr = 1e-3

[stage.control]
kind = "bridge_continuation"
treatment = "stage3"
bridge = ["bridge"]
dataset = {{ tolerance = 0.9, passes = 4 }}

[stage.warmup]
kind = "warmup"
prompts = "split = 'train'"
start = "student"
teacher = "teacher"
generate.top_logprobs = 4
dataset = {{ rows_per_update = 8, correct_only = false, finished_only = false }}

[stage.longer]
kind = "warmup"
start = "student"
teacher = "teacher"
rollouts_of = "warmup"
dataset = {{ rows_per_update = 8, passes = 2, correct_only = false, finished_only = false }}

[stage.bridge]
kind = "opd"
prompts = "split = 'train'"
start = "warmup"
teacher = "teacher"
rounds = 3
prompts_per_round = 4
generate.top_logprobs = 4
dataset.rows_per_update = 4

[stage.stage3]
kind = "grpo"
start = "bridge"
prompts = "split = 'train'"
rounds = 2
prompts_per_round = 4
generate.n = 4
dataset = {{ prompts_per_update = 2, keep_equal = true }}

[stage.eval]
kind = "eval"
policies = ["student", "stage3", "control"]
prompts = "split = 'test'"
baseline = "student"
"""
Write = Callable[..., Path]


def held_out(folder: Path) -> Path:
    """A file of two labelled prompts that no other stage has."""
    file = folder / "test.jsonl"
    rows = ({"question": "20+1=", "answer": "21"}, {"question": "3+30=", "answer": "33"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def written(folder: Path, changes: Iterable[tuple[str, str]], test: Path, **places: Path) -> Path:
    """The recipe as a file in a folder, `{name}` filled in and some of its text replaced."""
    folder.mkdir(exist_ok=True)
    text = RECIPE.format(place=folder, test=test, **places)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "recipe.toml"
    file.write_text(text)
    return file
