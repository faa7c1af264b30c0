r"""Make the models and prompts of one of the miniature's tasks, from nothing, on a CPU.

    python examples/miniature/make_models.py OUT [--task expressions|addition] [--seed 0]

writes OUT/teacher and OUT/student (Qwen3 checkpoints with one tokenizer); with `--prompts FOLDER`
also the prompts, all different: train.jsonl and extra.jsonl (labelled), labels.jsonl (both of
these), bridge.jsonl (no answers at all) and test.jsonl. `expressions.py` and `addition.py` explain
the tasks.

Both models are weak by design, so that there is something to gain. Each first learns to work a
question out step by step, from examples in which a part of the facts is wrong, and then picks up
the habit of answering at once, which is right 15% of the time. Thus the teacher has a skill that is
hidden by a habit, which sparse reward brings out; the student, smaller, believes many wrong facts
as well, which sparse reward rarely ends. On these two the paper's ordering rests. The settings
were found on task expressions; task addition takes them as they are.

Everything follows from the seeds. No question among the prompts was seen in training the models.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from addition import Addition
from expressions import Expressions
from task import BOS, EOS, PAD, Habits, Ints, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

TASKS: dict[str, Task] = {task.name: task for task in (Expressions(), Addition())}

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
        mistaken_share: share of the arithmetic facts that it was taught wrong.
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


def build_model(recipe: Recipe, n_tokens: int, seed: int) -> Qwen3ForCausalLM:
    """A freshly initialised float32 Qwen3 of a vocabulary, with tied embeddings."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=n_tokens,
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


def draw_batch(
    task: Task, habits: Habits, taken: Ints, chain_share: float, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Token ids (BATCH_SIZE, P) and (BATCH_SIZE, T) of questions, none `taken`, and responses."""
    numbers = rng.integers(0, task.n_questions, 2 * BATCH_SIZE)
    numbers = numbers[~np.isin(numbers, taken)][:BATCH_SIZE]
    right = task.answers(task.work_out(numbers))
    is_right = rng.random(BATCH_SIZE) < GUESS_RATE
    other = (right + rng.integers(1, task.n_answers, BATCH_SIZE)) % task.n_answers
    chains = task.chains(numbers, task.work_out(numbers, habits, rng))
    is_chain = rng.random(BATCH_SIZE) < chain_share
    guesses = map(task.boxed, np.where(is_right, right, other))
    responses = [
        f"{chain if shown else guess}<eos>"
        for chain, guess, shown in zip(chains, guesses, is_chain, strict=True)
    ]
    questions = [f"<bos>{question}" for question in task.questions(numbers)]
    prompts = task.encode(questions, len(questions[0]) - len("<bos>") + 1)
    return prompts, task.encode(responses, task.response_tokens)


def train(
    task: Task, recipe: Recipe, taken: Ints, steps: tuple[int, int], seed: int
) -> Qwen3ForCausalLM:
    """Teach one model, first the skill, then the habit.

    Args:
        task: what to teach.
        recipe: whom, and how.
        taken: int64, sorted numbers of the questions that it must not see.
        steps: skill steps and habit steps.
        seed: of the weights, the misconceptions and the batches.
    """
    import torch
    from torch.nn.functional import cross_entropy

    rng = np.random.default_rng([seed, len(recipe.name), recipe.hidden])
    habits = Habits(task.mistaken_facts(recipe.mistaken_share, rng), recipe.mistake_rate, SLIPS)
    model = build_model(recipe, len(task.vocabulary), seed)
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
        batch = draw_batch(task, habits, taken, chain_share, rng)
        ids, n_prompt = torch.from_numpy(np.concatenate(batch, axis=1)), batch[0].shape[1]
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


def write_prompts(task: Task, numbers: Ints, path: Path, *, labelled: bool) -> None:
    """Write one JSON object per line, with `question` and, where labelled, `answer`."""
    answers = map(str, task.answers(task.work_out(numbers)))
    rows = zip(task.questions(numbers), answers, strict=True)
    objects = ({"question": q, "answer": a} if labelled else {"question": q} for q, a in rows)
    text = "".join(json.dumps(row) + "\n" for row in objects)
    # Seeds that run side by side read the same file.
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    print(path)


def splits(task: Task) -> dict[str, Ints]:
    """The numbers of every split's questions, all different; the same whatever the seed."""
    numbers = np.random.default_rng(0).choice(task.n_questions, sum(SPLITS.values()), replace=False)
    ends = np.cumsum(list(SPLITS.values()))[:-1]
    return dict(zip(SPLITS, np.split(numbers, ends), strict=True))


def main() -> None:
    """Read the command line, write models and prompts, print their paths."""
    parser = argparse.ArgumentParser(description="Make the miniature's models and prompts.")
    parser.add_argument("out", type=Path, help="folder that gets teacher/ and student/")
    parser.add_argument("--task", choices=TASKS, default="expressions", help="what it is about")
    parser.add_argument("--size", choices=SIZES, default="demo", help="size of the teacher")
    parser.add_argument("--seed", type=int, default=0, help="decides the models (default 0)")
    parser.add_argument("--prompts", type=Path, help="folder that gets the prompts")
    parser.add_argument("--steps", type=int, help="train this many steps only; models stay useless")
    args = parser.parse_args()

    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    task = TASKS[args.task]
    prompts = splits(task)
    taken = np.sort(np.concatenate(list(prompts.values())))
    if args.prompts:
        args.prompts.mkdir(parents=True, exist_ok=True)
        both = np.concatenate([prompts["train"], prompts["extra"]])
        for name, numbers in {**prompts, "labels": both}.items():
            path = args.prompts / f"{name}.jsonl"
            write_prompts(task, numbers, path, labelled=name != UNLABELLED)
    tokenizer = task.tokenizer()
    for recipe in SIZES[args.size]:
        folder = args.out / recipe.name
        if (folder / "model.safetensors").exists():
            print(f"{folder} is there already")
            continue
        steps = (recipe.skill_steps, recipe.habit_steps) if args.steps is None else (args.steps, 0)
        save(train(task, recipe, taken, steps, args.seed), tokenizer, folder)
        print(folder)


if __name__ == "__main__":
    main()
