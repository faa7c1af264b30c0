"""s2d prompts."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_STORE, StoreOption, open_store

app = typer.Typer(help="Prompts and their gold answers.", no_args_is_help=True)

_SHOWN_CONFLICTS, _SHOWN_UNREADABLE = 10, 3


@app.callback()
def _prompts() -> None:
    """Keep `add` a subcommand while it is the only one."""


@app.command()
def add(
    location: Annotated[
        str, typer.Argument(help=".jsonl, .parquet or .csv file, or hf:NAME[:SPLIT].")
    ],
    source: Annotated[str, typer.Option(help="Name of the data set; default: the file's.")] = "",
    split: Annotated[str, typer.Option(help="train, test, or any name of yours.")] = "train",
    prompt_field: Annotated[
        str, typer.Option(help="Default: messages, prompt, question or problem. Dots reach inside.")
    ] = "",
    answer_field: Annotated[
        str, typer.Option(help="Gold answer; default: answer, gold or target; none: unlabelled.")
    ] = "",
    system: Annotated[
        str, typer.Option(help="System message put first, in place of one that is there.")
    ] = "",
    suffix: Annotated[
        str, typer.Option(help="Text put behind the user's last message; \\n: a new line.")
    ] = "",
    skip_duplicates: Annotated[
        bool, typer.Option("--skip-duplicates", help="Keep the first of equal prompts.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    r"""Add prompts. GSM8K's `####` answers are cut out. Adding them again changes nothing."""
    from pathlib import Path

    from s2d_store import prompts

    options = prompts.PromptOptions(
        source=source or Path(location.removeprefix("hf:").split(":")[0]).stem,
        split=split,
        prompt_field=prompt_field,
        answer_field=answer_field,
        system=system,
        suffix=suffix.replace("\\n", "\n"),
        skip_duplicates=skip_duplicates,
    )
    done = prompts.add(open_store(store), prompts.read_records(location), options)
    notes = f", {done.present} were stored before" if done.present else ""
    notes += f", {done.duplicates} duplicates left out" if done.duplicates else ""
    notes += f", {done.with_tools} with tools" if done.with_tools else ""
    print(f"{done.added} prompts added to split {split} ({done.labelled} labelled{notes})")
    if done.unreadable:
        print(
            f"  math-verify cannot read {len(done.unreadable)} of the gold answers, and judges "
            "nobody on them; other verifiers may"
        )
        for reason in done.unreadable[:_SHOWN_UNREADABLE]:
            print(f"    {reason}")
    for conflict in done.conflicts[:_SHOWN_CONFLICTS]:
        print(f"  kept the first: {conflict}")
    if len(done.conflicts) > _SHOWN_CONFLICTS:
        print(f"  and {len(done.conflicts) - _SHOWN_CONFLICTS} more with another gold answer")
