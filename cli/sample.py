"""s2d sample."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli.options import DEFAULT_STORE, FormatOption, StoreOption, open_store

_COLUMNS = (
    "rollout_id", "policy", "purpose", "prompt", "answer", "response_text", "extracted", "outcome",
    "reward", "response_tokens", "finish_reason",
)  # fmt: skip


def sample(
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many.")] = 5,
    where: Annotated[
        str,
        typer.Option(
            help="SQL condition over graded_rollouts and the prompt's text, `prompt`.",
            metavar="CONDITION",
        ),
    ] = "",
    draw: Annotated[int, typer.Option(help="Another number draws others.")] = 0,
    format_: FormatOption = "table",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Print some rollouts to read: prompt, response, gold answer, what the verifier read.

    They are drawn by a hash of their ids, so the same command prints the same ones.
    """
    import queries
    from cli.output import check_format, print_rows
    from s2d_store.sql import connection, read_only

    check_format(format_)
    text = queries.internal("sample_pool")
    con = open_store(store).connect(text=f"{text} {where}")
    with connection.errors():
        pool = con.sql(text, params={"draw": draw})
        if where:
            read_only.check_condition(where)
            pool = pool.filter(where)
        chosen = pool.order("draw, rollout_id").limit(n).select(*_COLUMNS).fetchall()
    if format_ == "table":
        _print([dict(zip(_COLUMNS, row, strict=True)) for row in chosen])
    else:
        print_rows(_COLUMNS, chosen, format_)


def _print(rollouts: list[dict[str, Any]]) -> None:
    from cli.table import safe

    for r in rollouts:
        graded = r["outcome"] or "not graded"
        print(f"{r['rollout_id']}  {r['policy']}, {r['purpose']}, {r['response_tokens']} tokens")
        print(f"  prompt    {_indented(safe(r['prompt'] or ''))}")
        print(f"  response  {_indented(safe(r['response_text'] or ''))}")
        read = f", read {r['extracted']!r}" if r["extracted"] else ""
        gold = f", gold {r['answer']!r}" if r["answer"] is not None else ""
        cut = ", cut off" if r["finish_reason"] == "length" else ""
        print(f"  {graded}{read}{gold}{cut}\n")
    more = f"s2d show {rollouts[0]['rollout_id']} shows its tokens" if rollouts else "(no rollouts)"
    print(more)


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 12)
