"""s2d show."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import complete
from cli.options import DEFAULT_STORE, StoreOption, open_store

if TYPE_CHECKING:
    from s2d_store.reading.rollout import Rollout
    from s2d_store.store import Store

# Backgrounds of a terminal of 256 colors, from weak to strong; the text on them stays legible.
_SHADES = (52, 88, 124, 160, 196)
_MARKED = 0.2
_TOP = 8


def show(
    rollout: Annotated[str, typer.Argument(help="Its id, or the first characters of it.")],
    token: Annotated[
        int | None,
        typer.Option(
            "--token", "-t", min=0, help="Top-k at this position of the response, from 0."
        ),
    ] = None,
    shade: Annotated[
        str,
        typer.Option(
            help="What tokens are shaded by; default: kl where a scorer saw them, else logprob.",
            metavar="kl|logprob|scorer|entropy|tail",
        ),
    ] = "",
    scorer: Annotated[
        str,
        typer.Option(
            help="The policy beside it; default: the first that scored it.",
            autocompletion=complete.policies,
        ),
    ] = "",
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="How it is printed; csv, md and latex are a table of the tokens, or of the top-k.",
            metavar="text|json|csv|md|latex",
        ),
    ] = "text",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Read one rollout: prompt, response with its tokens shaded, verdicts; or one token's top-k."""
    from cli.output import TEXT_FORMATS, check_format
    from s2d_store.errors import NotFoundError
    from s2d_store.reading import signals

    check_format(format_, ("text", *TEXT_FORMATS[1:]))
    if shade:
        signals.find(shade)
    opened = open_store(store)
    found = opened.rollout(rollout)
    if scorer and scorer not in found.scorers:
        raise NotFoundError(
            f"{scorer!r} has not scored rollout {found.rollout_id}",
            f"scorers: {', '.join(found.scorers) or 'none'}",
            f"s2d score --scorer {scorer} --top-logprobs 20",
        )
    if token is not None:
        _print_token(opened, found, token, format_)
    elif format_ == "json":
        _print_json(found)
    elif format_ != "text":
        _print_tokens(found.of_scorer(scorer or None), format_)
    else:
        _print(found, shade, scorer or None)


def _print_json(found: Rollout) -> None:
    import dataclasses
    import json

    print(json.dumps(dataclasses.asdict(found), default=str, ensure_ascii=False, indent=2))


def _print_tokens(tokens: list[dict[str, Any]], form: str) -> None:
    from cli.output import print_rows

    columns = list(tokens[0]) if tokens else []
    print_rows(columns, [tuple(row.values()) for row in tokens], form)


def _print(found: Rollout, shade: str, scorer: str | None) -> None:
    from cli.output import print_rows
    from cli.table import safe
    from s2d_store.reading import signals

    facts = found.facts
    about = [facts["policy"], facts["role"], facts["purpose"], f"round {facts['round']}"]
    if facts["stage"]:
        about.insert(3, f"stage {facts['stage']}")
    print(f"rollout {found.rollout_id}: {', '.join(map(str, about))}, run {facts['run_id']}")
    for message in found.messages:
        print(f"\n{safe(message['role'])}: {safe(message['content'] or '')}")
    tokens = found.of_scorer(scorer)
    name = shade or signals.default(tokens)
    signal = signals.find(name)
    print(f"\nresponse: {_shaded(tokens, signal) if tokens else safe(found.response)}\n")
    print(f"{facts['response_tokens']} tokens, finished by {facts['finish_reason']}", end="")
    print(f"; gold answer {safe(str(facts['gold']))}" if facts["gold"] is not None else "")
    if tokens:
        _print_strongest(tokens, name, signal)
    if found.verdicts:
        columns = ["verifier", "verifier_version", "reward", "outcome", "extracted", "detail"]
        rows = [(*(v[c] for c in columns), "yes" if v["counts"] else "no") for v in found.verdicts]
        print()
        print_rows([*columns, "counts"], rows)
    else:
        print("no verdict: s2d verify grades what is not graded")


def _shaded(tokens: list[dict[str, Any]], signal: Any) -> str:
    """The response with its tokens shaded; without colors the strong ones are in brackets."""
    from cli.output import colored
    from cli.table import safe
    from s2d_store.reading.signals import strength

    colors, parts = colored(sys.stdout), []
    for row in tokens:
        text, strong = safe(row["token"] or f"<{row['token_id']}>"), strength(signal, row)
        if strong < _MARKED / 2 or (not colors and strong < _MARKED):
            parts.append(text)
        elif colors:
            shade = _SHADES[min(len(_SHADES) - 1, int(strong * len(_SHADES)))]
            # A background that runs over a line's end would color the rest of the line.
            parts += [
                line if line == "\n" else f"\x1b[48;5;{shade}m\x1b[97m{line}\x1b[0m"
                for line in text.replace("\n", "\0\n\0").split("\0")
                if line
            ]
        else:
            parts.append(f"[{text}]")
    return "".join(parts)


def _print_strongest(tokens: list[dict[str, Any]], name: str, signal: Any) -> None:
    """Which scorer stands beside, the sum of a KL, and the tokens that are shaded most."""
    from cli.output import print_rows
    from s2d_store.reading.signals import strength

    scorer = tokens[0]["scorer"]
    beside = f", beside {scorer}" if scorer else "; no other policy scored it"
    print(f"shaded by {name} ({signal.doc}){beside}")
    known = [row["kl"] for row in tokens if row["kl"] is not None and row["sampled"]]
    if known:
        print(f"KL to {scorer} along the response: {sum(known):.4f} nats over {len(known)} tokens")
    strongest = sorted(tokens, key=lambda row: -strength(signal, row))[:_TOP]
    marked = [row for row in strongest if strength(signal, row) >= _MARKED]
    if marked:
        columns = ["position", "token", signal.column, "policy_top", "scorer_top"]
        print()
        print_rows(columns, [[row[c] for c in columns] for row in marked])


def _print_token(store: Store, found: Rollout, position: int, form: str) -> None:
    from cli.output import print_rows
    from s2d_store.errors import InputError

    length = int(found.facts["response_tokens"] or 0)
    if position >= length:
        raise InputError(
            f"rollout {found.rollout_id} has no token {position}",
            f"its response has {length} tokens, 0 to {length - 1}",
        )
    asked = store.query("topk_at", rollout=found.rollout_id, position=position)
    columns = asked.columns
    rows = [dict(zip(columns, row, strict=True)) for row in asked.fetchall()]
    if form != "text":
        print_rows(columns, [tuple(row.values()) for row in rows], form)
        return
    here = _at(found, position)
    print(f"rollout {found.rollout_id}, token {position} of {length}: {here['token']!r}")
    if not rows:
        print("no top-k is stored for it: s2d score --top-logprobs 20 stores a scorer's")
        return
    names = list(dict.fromkeys((row["scorer"], row["support"]) for row in rows))
    sides = [[row for row in rows if (row["scorer"], row["support"]) == name] for name in names]
    table = []
    for rank in range(max(map(len, sides))):
        line: list[Any] = [rank + 1]
        for side in sides:
            row = side[rank] if rank < len(side) else None
            line += [_entry(row), _bar(row)] if row else ["", ""]
        table.append(line)
    tails = [max(0.0, 1 - sum(row["probability"] for row in side)) for side in sides]
    table.append(["tail", *(text for tail in tails for text in (f"{tail:.4f}", ""))])
    head = [text for name, support in names for text in (f"{name} ({support})", "")]
    print_rows(["rank", *head], table)
    print("* the token that the rollout has; support own: the scorer's likeliest, policy: its")
    print("logprobs at the sampling policy's likeliest")


def _at(found: Rollout, position: int) -> dict[str, Any]:
    return next(row for row in found.tokens if row["position"] == position)


def _entry(row: dict[str, Any]) -> str:
    return f"{'*' if row['sampled'] else ' '}{row['token']!r} {row['probability']:.4f}"


def _bar(row: dict[str, Any]) -> str:
    return "█" * round(12 * float(row["probability"]))
