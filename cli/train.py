"""s2d train: one command a trainer, its options made from the fields of the trainer's config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.main

import queries
from cli import complete
from cli.config_options import Option, command, options, settings
from cli.help import HelpGroup
from cli.options import DEFAULT_STORE, BudgetOption, QuietOption, StoreOption, open_store
from trainers import registry
from trainers.registry import Trainer

if TYPE_CHECKING:
    from s2d_store.policies.registry import Registered
    from s2d_store.store import Store


class Trainers(HelpGroup):
    """Built-in trainers, and those that other packages register: imported when they are named."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Built-in trainers first."""
        return registry.names()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a trainer, or None where there is none of that name."""
        built_in = super().get_command(ctx, cmd_name)
        if built_in is not None or cmd_name not in registry.names():
            return built_in
        alone = typer.Typer(add_completion=False)
        alone.command(cmd_name)(_command(registry.find(cmd_name)))
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=Trainers, help="Trainers: consumers of locked datasets.", no_args_is_help=True
)

_REQUIRED = {
    "dataset": Option(
        Annotated[
            str,
            typer.Option(help="A locked dataset of the store.", autocompletion=complete.datasets),
        ]
    ),
    "student": Option(
        Annotated[
            str,
            typer.Option(
                help="Registered name or id, folder, or hub id.", autocompletion=complete.policies
            ),
        ]
    ),
    "output": Option(
        Annotated[Path, typer.Option(help="Folder for checkpoints and the final model.")]
    ),
}
_NAME = Annotated[str, typer.Option(help="Name of the trained policy; default: the folder's.")]
_STAGE = Annotated[
    str,
    typer.Option(
        help="Stage that budgets count this run for; default: the trainer, or "
        "TRAINER-by-hand where a recipe has a stage of that name."
    ),
]
_COMMON = {
    "name": Option(_NAME, ""),
    "stage": Option(_STAGE, ""),
    "budget": Option(BudgetOption, ""),
    "quiet": Option(QuietOption, False),
    "store": Option(StoreOption, DEFAULT_STORE),
}


def _command(trainer: Trainer) -> Callable[..., None]:
    doc = (
        f"{trainer.summary} The same command continues a run.\n\nOn several GPUs: accelerate "
        f"launch --multi_gpu -m cli.main train {trainer.name} ..., or in shards with --use_fsdp "
        "--fsdp_version 2 in place of --multi_gpu."
    )
    own = options(trainer.config, skip=_REQUIRED)
    return command(partial(_train, trainer), {**_REQUIRED, **own, **_COMMON}, doc)


def _train(trainer: Trainer, given: dict[str, Any]) -> None:
    from cli.recipes.train_from_store import train_from_store

    store = open_store(given.pop("store"))
    quiet, lead = given.pop("quiet"), {name: given.pop(name) for name in _REQUIRED}
    books = {name: given.pop(name) for name in ("name", "stage", "budget")}
    report = _reporting(store, lead["dataset"], quiet)
    chosen = settings(trainer.config, given)
    done = train_from_store(store, trainer, **lead, **books, settings=chosen, on_update=report)
    if done is not None:
        _print_summary(store, *done)
        if "tensorboard" in chosen["trackers"]:
            print(f"curves: tensorboard --logdir {lead['output'] / 'trackers'}")


def _reporting(store: Store, dataset: str, quiet: bool) -> Callable[[Mapping[str, Any]], None]:
    """Print a line for the first update, the last, and one in twenty."""
    import sys

    from cli.progress import clock
    from s2d_store.datasets.lock_file import read_lock

    total = read_lock(store, dataset)["counts"]["updates"]
    took: list[float] = []

    def on_update(update: Mapping[str, Any]) -> None:
        number = update["update"]
        took.append(update["seconds"])
        if quiet or (number not in (1, total) and number % max(1, total // 20)):
            return
        shown = [f"{k} {update[k]:.4f}" for k in ("loss", "kl", "clip_fraction") if k in update]
        left = clock(sum(took) / len(took) * (total - number))
        print(
            f"update {number}/{total}: {', '.join(shown)}, grad norm {update['grad_norm']:.3f}, "
            f"lr {update['lr']:.2g}, "
            f"{update['response_tokens'] / update['seconds']:,.0f} tokens/s, {left} left",
            file=sys.stderr,
            flush=True,
        )

    return on_update


def _print_summary(store: Store, run: str, made: Registered) -> None:
    text = queries.internal("run_losses")
    ((first, last, count),) = store.sql(text, {"run": run}).fetchall()
    print(f"run {run}: {count} updates, loss {first:.4f} -> {last:.4f}")
    print(f"policy {made.name} is {made.policy_id}, at {made.location}")


for _trainer in registry.BUILT_IN.values():
    app.command(_trainer.name)(_command(_trainer))
