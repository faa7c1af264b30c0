"""s2d train."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.options import DEFAULT_STORE, BudgetOption, QuietOption, StoreOption, open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

app = typer.Typer(help="Trainers: consumers of locked datasets.", no_args_is_help=True)


@app.callback()
def _train() -> None:
    """Keep the stages subcommands."""


@app.command()
def warmup(
    dataset: Annotated[str, typer.Option(help="A locked dataset of the store.")],
    student: Annotated[str, typer.Option(help="Registered name or id, folder, or hub id.")],
    output: Annotated[Path, typer.Option(help="Folder for checkpoints and the final model.")],
    name: Annotated[
        str, typer.Option(help="Name of the trained policy; default: the folder's.")
    ] = "",
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-5,
    lr_schedule: Annotated[str, typer.Option(help="constant, cosine or linear.")] = "constant",
    lr_warmup_updates: Annotated[int, typer.Option(help="Updates of linear warm-up.")] = 0,
    weight_decay: Annotated[float, typer.Option(help="AdamW weight decay.")] = 0.0,
    grad_clip_norm: Annotated[float, typer.Option(help="Largest gradient norm; 0: no clip.")] = 1.0,
    tail: Annotated[
        str, typer.Option(help="Mass outside the top k: bucket, renormalise or drop.")
    ] = "bucket",
    max_tokens_per_micro_batch: Annotated[
        int, typer.Option(help="Token slots a forward pass.")
    ] = 8192,
    precision: Annotated[
        str, typer.Option(help="auto (bf16 on CUDA, else fp32), fp32, bf16.")
    ] = "auto",
    packing: Annotated[str, typer.Option(help="Pack sequences: auto, on or off.")] = "auto",
    gradient_checkpointing: Annotated[bool, typer.Option(help="Less memory, more time.")] = False,
    checkpoint_every_updates: Annotated[
        int, typer.Option(help="Updates between checkpoints.")
    ] = 50,
    keep_checkpoints: Annotated[int, typer.Option(help="Newest checkpoints to keep.")] = 2,
    max_kl: Annotated[float, typer.Option(help="Stop above this mean KL, nats a token.")] = 50.0,
    seed: Annotated[int, typer.Option(help="Seed of dropout, where the model has any.")] = 0,
    tracker: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb or trackio. May be repeated.")
    ] = None,
    tracker_project: Annotated[str, typer.Option(help="Project that trackers show.")] = "s2d",
    stage: Annotated[str, typer.Option(help="Stage that budgets count this run for.")] = "warmup",
    budget: BudgetOption = "",
    quiet: QuietOption = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Stage 2a: forward KL to a teacher's stored top-k. The same command continues a run.

    On several GPUs: accelerate launch --multi_gpu -m cli.main train warmup ...
    """
    from s2d_store import charges, policy_registry, runs, trained
    from s2d_store.budget_guard import Guard
    from s2d_store.datasets.build import read_lock

    opened = open_store(store)
    lock = read_lock(opened, dataset)
    _require_torch()
    from trainers.config import WarmupConfig
    from trainers.warmup import train_warmup

    policy = policy_registry.find(opened, student)
    trained.check_student(policy, lock)
    settings: dict[str, Any] = {
        "lr": lr,
        "lr_schedule": lr_schedule,
        "lr_warmup_updates": lr_warmup_updates,
        "weight_decay": weight_decay,
        "grad_clip_norm": grad_clip_norm,
        "tail": tail,
        "max_tokens_per_micro_batch": max_tokens_per_micro_batch,
        "precision": precision,
        "packing": packing,
        "gradient_checkpointing": gradient_checkpointing,
        "checkpoint_every_updates": checkpoint_every_updates,
        "keep_checkpoints": keep_checkpoints,
        "max_kl": max_kl,
        "seed": seed,
        "trackers": tuple(tracker or ()),
        "tracker_project": tracker_project,
    }
    config = WarmupConfig(
        dataset=str(opened.root / "datasets" / dataset),
        student=policy.location,
        output=str(output),
        **settings,
    )
    if int(os.environ.get("RANK", "0")) > 0:
        # Under `accelerate launch` every process trains, and the first one keeps the books.
        train_warmup(config)
        return
    run = trained.run_id("warmup", lock, policy, config.identity())
    # Only what decides the weights: the same run may go on with other checkpoints or trackers.
    decisive = {name: value for name, value in config.identity().items() if name in settings}
    stored_config = {"policy_id": policy.policy_id, "dataset_id": lock["dataset_id"], **decisive}
    charges.before_training(Guard.open(opened, budget), opened, run, stage, lock, policy)
    with runs.running(opened, run, "train", stored_config, [lock["dataset_id"]], stage):
        with trained.UpdateRecorder(opened, run, lock["dataset_id"]) as recorder:
            train_warmup(config, _reporting(recorder.add, lock, quiet))
        made = trained.record_output(opened, output, run, lock, policy, name or output.name)
    _print_summary(opened, run, made)


def _reporting(
    record: Callable[[Mapping[str, Any]], None], lock: Mapping[str, Any], quiet: bool
) -> Callable[[Mapping[str, Any]], None]:
    """Record each update and print a line for the first, the last and one in twenty."""
    import sys

    total = lock["counts"]["updates"]

    def on_update(update: Mapping[str, Any]) -> None:
        record(update)
        number = update["update"]
        if not quiet and (number in (1, total) or number % max(1, total // 20) == 0):
            print(
                f"update {number}/{total}: loss {update['loss']:.4f}, kl {update['kl']:.4f}, "
                f"grad norm {update['grad_norm']:.3f}, "
                f"{update['response_tokens'] / update['seconds']:,.0f} tokens/s",
                file=sys.stderr,
                flush=True,
            )

    return on_update


def _print_summary(store: Any, run: str, made: Any) -> None:
    first, last, count = store.sql(
        "SELECT arg_min(loss, update), arg_max(loss, update), count(*) FROM updates "
        "WHERE run_id = $run",
        {"run": run},
    ).fetchall()[0]
    print(f"run {run}: {count} updates, loss {first:.4f} -> {last:.4f}")
    print(f"policy {made.name} is {made.policy_id}, at {made.location}")


def _require_torch() -> None:
    from importlib.util import find_spec

    from s2d_store.errors import EngineError

    missing = [name for name in ("torch", "transformers", "accelerate") if not find_spec(name)]
    if missing:
        raise EngineError(
            f"training needs {', '.join(missing)}, not installed here",
            "the base install has no torch",
            'pip install "s2d[train]"',
        )
