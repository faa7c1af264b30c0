r"""Make the miniature's teacher, student and prompts, from nothing, on a CPU.

    python examples/miniature/make_models.py OUT [--size demo|smoke] [--seed 0]

writes OUT/teacher and OUT/student (Qwen3 checkpoints with one tokenizer); with `--prompts FOLDER`
also the prompts: train.jsonl and extra.jsonl (labelled, for the teacher's and the student's RL),
bridge.jsonl (no answers at all) and test.jsonl, whose expressions are all different.
`arithmetic.py` explains the task.

Both models are weak by design, so that there is something to gain. Each first learns to work an
expression out step by step, from examples in which a part of its arithmetic facts is wrong, and
then picks up the habit of answering at once, which is right 15% of the time. Thus the teacher has a
skill that is hidden by a habit, which sparse reward brings out; the student, smaller, believes
many wrong facts as well, which sparse reward rarely ends. On these two the paper's ordering rests.

Everything follows from the seeds. No expression among the prompts was seen in training the models.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from arithmetic import (
    BOS,
    EOS,
    N_EXPRESSIONS,
    PAD,
    VOCABULARY,
    Expressions,
    Habits,
    Ints,
    build_tokenizer,
    encode_chains,
    encode_guesses,
    encode_prompts,
    gold_answers,
    mistaken_facts,
    running_results,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

SPLITS = {"train": 512, "extra": 512, "bridge": 4096, "test": 512}
UNLABELLED = "bridge"
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
WARMUP_STEPS = 10
SLIPS = 0.02
# How often an answer given at once is right.
GUESS_RATE = 0.15
# Models this small gain nothing from a second thread, and lose tenfold when cores are shared.
THREADS = 1


@dataclass(frozen=True)
class Recipe:
    """One model's size, and how it came to be weak.

    Attributes:
        name: its folder.
        hidden, layers, heads, kv_heads, intermediate: sizes of the Qwen3 model (heads of 32).
        skill_steps: optimizer steps on chains alone.
        habit_steps: steps on chains and guesses mixed, while the learning rate falls to zero.
        chain_share: share of chains among the examples of the habit steps; the rest guess.
        mistaken_share: share of the 300 arithmetic facts that it was taught wrong.
        mistake_rate: how often it was taught them wrong.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    skill_steps: int
    habit_steps: int
    chain_share: float
    mistaken_share: float
    mistake_rate: float


TEACHER = Recipe("teacher", 128, 3, 4, 2, 320, 240, 60, 0.45, 0.15, 0.6)
STUDENT = Recipe("student", 64, 2, 2, 1, 160, 320, 80, 0.3, 0.25, 0.95)
SIZES = {
    "demo": (TEACHER, STUDENT),
    "smoke": (
        replace(TEACHER, hidden=96, layers=2, heads=3, kv_heads=1, intermediate=256),
        STUDENT,
    ),
}


def build_model(recipe: Recipe, seed: int) -> Qwen3ForCausalLM:
    """A freshly initialised float32 Qwen3 with tied embeddings."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(VOCABULARY),
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return Qwen3ForCausalLM(config)


def draw_batch(habits: Habits, taken: Ints, chain_share: float, rng: np.random.Generator) -> Ints:
    """Token ids int64 (BATCH_SIZE, 24) of prompts and padded responses, none of them `taken`."""
    numbers = rng.integers(0, N_EXPRESSIONS, 2 * BATCH_SIZE)
    expressions = Expressions.numbered(numbers[~np.isin(numbers, taken)][:BATCH_SIZE])
    right = running_results(expressions)[:, -1]
    guessed = np.where(
        rng.random(BATCH_SIZE) < GUESS_RATE, right, (right + rng.integers(1, 10, BATCH_SIZE)) % 10
    )
    chains = encode_chains(expressions, running_results(expressions, habits, rng))
    is_chain = rng.random((BATCH_SIZE, 1)) < chain_share
    responses = np.where(is_chain, chains, encode_guesses(guessed))
    return np.concatenate([encode_prompts(expressions), responses], axis=1)


def train(recipe: Recipe, taken: Ints, steps: tuple[int, int], seed: int) -> Qwen3ForCausalLM:
    """Teach one model, first the skill, then the habit.

    Args:
        recipe: what to teach.
        taken: int64, sorted numbers of the expressions that it must not see.
        steps: skill steps and habit steps.
        seed: of the weights, the misconceptions and the batches.
    """
    import torch
    from torch.nn.functional import cross_entropy

    rng = np.random.default_rng([seed, len(recipe.name), recipe.hidden])
    habits = Habits(mistaken_facts(recipe.mistaken_share, rng), recipe.mistake_rate, SLIPS)
    model = build_model(recipe, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    skill_steps, habit_steps = steps
    started = time.perf_counter()
    loss = torch.zeros(())
    for step in range(skill_steps + habit_steps):
        learning_skill = step < skill_steps
        left = 1.0 if learning_skill else 1 - (step - skill_steps) / habit_steps
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP_STEPS) * left
        chain_share = 1.0 if learning_skill else recipe.chain_share
        ids = torch.from_numpy(draw_batch(habits, taken, chain_share, rng))
        n_prompt = ids.shape[1] - encode_guesses(np.zeros(1, np.int64)).shape[1]
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[:, n_prompt - 1 :]
        loss = cross_entropy(logits.flatten(0, 1), ids[:, n_prompt:].flatten(), ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    print(
        f"{recipe.name}: {sum(p.numel() for p in model.parameters()):,} parameters,"
        f" {skill_steps + habit_steps} steps, last loss {loss.item():.3f},"
        f" {time.perf_counter() - started:.1f} s",
        flush=True,
    )
    return model.eval()


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a checkpoint folder that `AutoModelForCausalLM` and `AutoTokenizer` read."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD, do_sample=True, temperature=1.0
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_prompts(numbers: Ints, path: Path, *, labelled: bool) -> None:
    """Write one JSON object a line, with `question` and, where labelled, `answer`."""
    expressions = Expressions.numbered(numbers)
    rows = zip(expressions.questions(), gold_answers(expressions), strict=True)
    objects = ({"question": q, "answer": a} if labelled else {"question": q} for q, a in rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in objects), encoding="utf-8")


def splits() -> dict[str, Ints]:
    """The numbers of every split's expressions, all different; the same whatever the seed."""
    numbers = np.random.default_rng(0).choice(N_EXPRESSIONS, sum(SPLITS.values()), replace=False)
    ends = np.cumsum(list(SPLITS.values()))[:-1]
    return dict(zip(SPLITS, np.split(numbers, ends), strict=True))


def main() -> None:
    """Read the command line, write models and prompts, print their paths."""
    parser = argparse.ArgumentParser(description="Make the miniature's models and prompts.")
    parser.add_argument("out", type=Path, help="folder that gets teacher/ and student/")
    parser.add_argument("--size", choices=SIZES, default="demo", help="size of the teacher")
    parser.add_argument("--seed", type=int, default=0, help="decides the models (default 0)")
    parser.add_argument("--prompts", type=Path, help="folder that gets the prompts")
    parser.add_argument("--steps", type=int, help="train this many steps only; models stay useless")
    args = parser.parse_args()

    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    prompts = splits()
    if args.prompts:
        args.prompts.mkdir(parents=True, exist_ok=True)
        for name, numbers in prompts.items():
            write_prompts(numbers, args.prompts / f"{name}.jsonl", labelled=name != UNLABELLED)
            print(args.prompts / f"{name}.jsonl")
    taken = np.sort(np.concatenate(list(prompts.values())))
    tokenizer = build_tokenizer()
    for recipe in SIZES[args.size]:
        folder = args.out / recipe.name
        if (folder / "model.safetensors").exists():
            print(f"{folder} is there already")
            continue
        steps = (recipe.skill_steps, recipe.habit_steps) if args.steps is None else (args.steps, 0)
        save(train(recipe, taken, steps, args.seed), tokenizer, folder)
        print(folder)


if __name__ == "__main__":
    main()
