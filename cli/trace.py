"""s2d trace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import complete
from cli.options import DEFAULT_STORE, FormatOption, StoreOption, open_store

if TYPE_CHECKING:
    from rich.tree import Tree

# A line of the tree and what hangs below it.
Node = tuple[str, list["Node"]]


def trace(
    policy: Annotated[
        str, typer.Argument(help="Registered name or id.", autocompletion=complete.policies)
    ],
    full: Annotated[
        bool, typer.Option("--full", help="Every run, dataset, verifier and setting, as a tree.")
    ] = False,
    format_: FormatOption = "table",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Walk back from a policy to what it was made from, a line per stage; json has all of it."""
    import json

    from cli.output import check_format
    from s2d_store.accounting.lineage import trace as run_trace

    check_format(format_)
    found = run_trace(open_store(store), policy)
    if format_ == "json":
        print(json.dumps(found, indent=2))
        return
    if not full:
        _print_folded(found, format_)
        return
    node = _policy("policy", found)
    if sys.stdout.isatty():
        from rich.console import Console

        Console(highlight=False, markup=False).print(_tree(node))
    else:
        print("\n".join(_lines(node)))


def _print_folded(found: dict[str, Any], form: str) -> None:
    from cli.output import print_rows
    from s2d_store.accounting.folded_trace import fold

    columns = ["line of", "stage", "policies", "kind", "updates", "rows", "tokens", "taught by"]
    rows, before = [], ""
    for part in fold(found):
        stage = part.stage or "(no training run recorded)"
        named = part.last if part.rounds == 1 else f"{part.first} .. {part.last}"
        line = part.line if part.line != before or form != "table" else ""
        rounds = f" x{part.rounds}" if part.rounds > 1 else ""
        amounts = (part.updates, part.rows, part.response_tokens) if part.stage else (None,) * 3
        before = part.line
        rows.append(
            (line, stage + rounds, named, part.kinds or None, *amounts, part.teachers or None)
        )
    print_rows(columns, rows, form)
    if form == "table":
        print("--full prints every run, dataset, verifier and setting")


def _tree(node: Node) -> Tree:
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(node[0]))
    for child in node[1]:
        tree.children.append(_tree(child))
    return tree


def _lines(node: Node, depth: int = 0) -> Iterator[str]:
    yield "  " * depth + node[0]
    for child in node[1]:
        yield from _lines(child, depth + 1)


def _policy(relation: str, found: dict[str, Any]) -> Node:
    title = f"{relation} {found['name'] or found['policy_id']}"
    if found.get("seen"):
        return f"{title} (shown above)", []
    if found.get("registered") is False:
        return f"{title} (not registered in this store)", []
    at = f", after update {found['update']}" if found["update"] is not None else ""
    size = found["n_parameters"]
    counted = f"{size:,} parameters" if size is not None else "of unknown size"
    text = f"{title} ({found['policy_id']}, {counted}{at})"
    children: list[Node] = [(f"location {found['location'] or 'unknown'}", [])]
    children.append(
        _training_run(found["run"]) if found["run"] else ("no training run recorded", [])
    )
    if found["parent"]:
        children.append(_policy("parent", found["parent"]))
    return text, children


def _training_run(run: dict[str, Any]) -> Node:
    children = _config(run)
    children += [_dataset(dataset) for dataset in run["datasets"]]
    return f"{_run('training run', run)}, {run['updates']:,} updates", children


def _dataset(dataset: dict[str, Any]) -> Node:
    counts = dataset["counts"] or {}
    figures = ", ".join(f"{value:,} {name}" for name, value in counts.items())
    children: list[Node] = [
        (f"query {dataset['query']}, {_pairs(dataset['params'])}, seed {dataset['seed']}", []),
        (f"fingerprint {dataset['fingerprint']}", []),
        (f"table versions {_pairs(dataset['versions'])}", []),
    ]
    if figures:
        children.append((figures, []))
    children += [_generate_run(run) for run in dataset["generate_runs"]]
    for row in dataset["verifiers"]:
        run = _run("in run", row["run"])
        text = f"verifier {row['verifier']} {row['verifier_version']}: {row['rows']:,} rows, {run}"
        if row["withdrawn"] is not None:
            text += f"; withdrawn: {row['withdrawn']}"
        children.append((text, []))
    for row in dataset["score_runs"]:
        # A policy's own top-k is kept by the run that sampled.
        title = "kept in generate run" if row["run"].get("kind") == "generate" else "score run"
        run = _run(title, row["run"])
        text = f"{run}: top-{row['k']} on support {row['support']}, {row['rows']:,} rows"
        children.append((text, [_policy("scorer", row["scorer"])]))
    built = f", built by code {dataset['code_version']}" if dataset["code_version"] else ""
    return f"dataset {dataset['name'] or dataset['dataset_id']}{built}", children


def _generate_run(run: dict[str, Any]) -> Node:
    sampling = (
        f"temperature {run['temperature']:g}, top-p {run['top_p']:g}, top-k {run['top_k']}, "
        f"max tokens {run['max_tokens']}, round {run['round']}"
    )
    return (
        f"{_run('generate run', run)}: {run['rows']:,} rows of {run['rollouts']:,} rollouts",
        [
            (f"{run['role']}, {run['purpose']}, {run['engine']} {run['engine_version']}", []),
            (sampling, []),
            _policy("sampled by", run["policy"]),
        ],
    )


def _run(title: str, run: dict[str, Any]) -> str:
    if run.get("recorded") is False:
        return f"{title} {run['run_id']} (not recorded)"
    stage = f"stage {run['stage']}, " if run["stage"] else ""
    return f"{title} {run['run_id']} ({stage}{run['status']}, code {run['code_version']})"


def _config(run: dict[str, Any]) -> list[Node]:
    return [(f"config {_pairs(run['config'])}", [])] if run.get("config") else []


def _pairs(values: dict[str, Any] | None) -> str:
    return ", ".join(f"{name}={value}" for name, value in (values or {}).items()) or "none"
