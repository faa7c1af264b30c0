r"""Make the quickstart's teacher, student and prompts, from nothing, on a CPU.

    python examples/quickstart/make_models.py OUT

writes OUT/teacher and OUT/student (Qwen3 checkpoints of 0.2 and 0.09 million parameters with one
tokenizer), OUT/train.jsonl and OUT/test.jsonl (`question` and `answer`, the gold answer computed by
code). `arithmetic.py` explains the task.

Both models are weak by design, so that there is something to gain: each first learns to work an
expression out step by step, from examples in which a part of its arithmetic facts is wrong, and
then picks up the habit of guessing instead. The teacher knows most facts and guesses seldom; the
student, smaller, believes many wrong facts and mostly guesses. Correct teacher rollouts carry what
it lacks: the right facts, and the habit of working them out.

Everything follows from the seed. No expression in train or test was seen in training the models.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
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

N_TRAIN, N_TEST = 512, 256
BATCH_SIZE = 64
LEARNING_RATE = 2e-3
WARMUP_STEPS = 10
# Models this small gain nothing from a second thread, and lose tenfold when cores are shared.
THREADS = 1


@dataclass(frozen=True)
class Recipe:
    """One model's size, and how it came to be weak.

    Attributes:
        name: its folder.
        hidden, layers, heads, intermediate: sizes of the Qwen3 model (heads of 32, one kv head).
        skill_steps: optimizer steps on chains alone.
        habit_steps: steps on chains and guesses mixed, while the learning rate falls to zero.
        chain_share: share of chains among the examples of the habit steps; the rest guess.
        mistaken_share: share of the 300 arithmetic facts that it was taught wrong.
        slips: probability that a step of a chain it was taught is a random digit.
    """

    name: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    skill_steps: int
    habit_steps: int
    chain_share: float
    mistaken_share: float
    slips: float = 0.02


TEACHER = Recipe("teacher", 96, 2, 3, 256, 500, 60, chain_share=0.75, mistaken_share=0.04)
STUDENT = Recipe("student", 64, 2, 2, 160, 600, 80, chain_share=0.35, mistaken_share=0.25)


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
        num_key_value_heads=1,
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
    recipe: Recipe, facts: Ints, pool: Ints, chain_share: float, rng: np.random.Generator
) -> Ints:
    """Token ids int64 (BATCH_SIZE, 20) of prompts and padded responses, as `recipe` is taught."""
    expressions = Expressions.numbered(rng.choice(pool, BATCH_SIZE))
    results = running_results(expressions, facts, recipe.slips, rng)
    guesses = encode_guesses(rng.integers(0, 10, BATCH_SIZE))
    is_chain = rng.random((BATCH_SIZE, 1)) < chain_share
    responses = np.where(is_chain, encode_chains(expressions, results), guesses)
    return np.concatenate([encode_prompts(expressions), responses], axis=1)


def train(recipe: Recipe, pool: Ints, steps: tuple[int, int], seed: int) -> Qwen3ForCausalLM:
    """Teach one model on expressions of `pool`, first the skill, then the habit.

    Args:
        recipe: what to teach.
        pool: int64, the numbers of the expressions to draw from.
        steps: skill steps and habit steps.
        seed: of the weights, the misconceptions and the batches.
    """
    import torch
    from torch.nn.functional import cross_entropy

    rng = np.random.default_rng(seed)
    facts = mistaken_facts(recipe.mistaken_share, rng)
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
        ids = torch.from_numpy(draw_batch(recipe, facts, pool, chain_share, rng))
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


def write_prompts(numbers: Ints, path: Path) -> None:
    """Write one JSON object a line, with `question` and `answer`."""
    expressions = Expressions.numbered(numbers)
    rows = zip(expressions.questions(), gold_answers(expressions), strict=True)
    lines = (json.dumps({"question": question, "answer": answer}) for question, answer in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Read the command line, write models and prompts, print their paths."""
    parser = argparse.ArgumentParser(description="Make the quickstart's models and prompts.")
    parser.add_argument("out", type=Path, help="folder that gets teacher/, student/ and prompts")
    parser.add_argument("--seed", type=int, default=0, help="decides everything (default 0)")
    parser.add_argument("--steps", type=int, help="train this many steps only; models stay useless")
    args = parser.parse_args()

    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)

    numbers = np.random.default_rng(args.seed).permutation(N_EXPRESSIONS)
    test, rest = np.split(numbers, [N_TEST])
    held_in, pool = np.split(rest, [N_TRAIN])
    write_prompts(held_in, out / "train.jsonl")
    write_prompts(test, out / "test.jsonl")
    tokenizer = build_tokenizer()
    for recipe in (TEACHER, STUDENT):
        steps = (recipe.skill_steps, recipe.habit_steps) if args.steps is None else (args.steps, 0)
        save(train(recipe, pool, steps, args.seed), tokenizer, out / recipe.name)
    for name in (TEACHER.name, STUDENT.name, "train.jsonl", "test.jsonl"):
        print(out / name)


if __name__ == "__main__":
    main()
