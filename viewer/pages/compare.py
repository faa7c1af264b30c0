"""Two policies on the same prompts, two rollouts, or two verifiers: who is right where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from s2d_store.errors import NotFoundError
from viewer.page import Page
from viewer.pages.rollouts import prompt_texts
from viewer.params import Params
from viewer.selection import Selection
from viewer.snapshots import Record, View

QUERIES = ("response_tokens", "compare_verifiers")
PAIRS, MOST_TOKENS = 8, 2_000
ALL = Selection("", "true")
# Cells of the table of two by two: whether the first is right, and the second.
CELLS = {"both": (True, True), "first": (True, False), "second": (False, True)}
CELLS["neither"] = (False, False)


def load(view: View, params: Params) -> dict[str, Any]:
    """With `left` and `right`, two rollouts; with `verifiers`, those; else policies `a` and `b`."""
    left, right = params.text("left").strip(), params.text("right").strip()
    if left or right:
        return {"what": "rollouts", "left": left, "right": right} | _rollouts(view, left, right)
    if params.choice("what", ("policies", "verifiers"), "policies") == "verifiers":
        return {"what": "verifiers", "tables": _verifiers(view)}
    return {"what": "policies"} | _policies(view, params)


def _policies(view: View, params: Params) -> dict[str, Any]:
    known = ALL.asked(view, "compare_policies")
    purposes = sorted({row["purpose"] for row in known})
    default = "eval" if "eval" in purposes else "".join(purposes[:1])
    purpose = params.choice("purpose", purposes, default)
    names = [row["policy"] for row in known if row["purpose"] == purpose]
    b = params.choice("b", names, "".join(names[:1]))
    a = params.choice("a", names, "".join([name for name in names if name != b][:1]) or b)
    asked = {"of_a": a, "of_b": b, "purpose": purpose}
    found = {
        (row["a_correct"], row["b_correct"]): row
        for row in (ALL.asked(view, "compare_counts", **asked) if names else [])
    }
    counts = {cell: found.get(key, {}).get("pairs", 0) for cell, key in CELLS.items()}
    prompts = {cell: found.get(key, {}).get("prompts", 0) for cell, key in CELLS.items()}
    cell = params.choice("cell", tuple(CELLS), "second" if counts["second"] else "first")
    offset = params.integer("offset", 0)
    right = dict(zip(("a_right", "b_right"), CELLS[cell], strict=True))
    rows = []
    if names:
        rows = ALL.asked(view, "compare_pairs", **asked, **right, n_rows=PAIRS, skipped=offset)
    return {
        "policies": names,
        "purposes": purposes,
        "purpose": purpose,
        "a": a,
        "b": b,
        "counts": counts,
        "prompts": prompts,
        "cell": cell,
        "offset": offset,
        "page_pairs": PAIRS,
        "pairs": _pairs(view, rows),
    }


def _rollouts(view: View, left: str, right: str) -> dict[str, Any]:
    """Two rollouts side by side.

    Raises:
        NotFoundError: one is not in the store.
    """
    found = _texts(view, [left, right])
    for rollout in (left, right):
        if rollout not in found:
            raise NotFoundError(
                f"no rollout {rollout!r} in this store", fix="choose one from the page Rollouts"
            )
    row = {"left_id": left, "right_id": right, "prompt_id": found[left]["prompt_id"]}
    verdicts = {row["rollout_id"]: row for row in view.rows("verdicts_of", rollouts=[left, right])}
    reads = {
        f"{side}_read": verdicts.get(rollout, {}).get("extracted")
        for side, rollout in (("left", left), ("right", right))
    }
    return {"pairs": _pairs(view, [row | reads | {"answer": None, "sample_index": None}])}


def _pairs(view: View, rows: Sequence[Record]) -> list[dict[str, Any]]:
    """Pairs with the prompt's text, both responses, and where they part."""
    texts = _texts(view, [row[side] for row in rows for side in ("left_id", "right_id")])
    words = prompt_texts(view, [row["prompt_id"] for row in rows])
    pairs = []
    for row in rows:
        left, right = texts[row["left_id"]], texts[row["right_id"]]
        pairs.append(
            row
            | {
                "prompt": words.get(row["prompt_id"]),
                "left": left,
                "right": right,
                "differs_at": first_difference(left["texts"], right["texts"]),
            }
        )
    return pairs


def first_difference(left: Sequence[str | None] | None, right: Sequence[str | None] | None) -> int:
    """The first position whose tokens are not the same; the shorter's length where one goes on.

    -1 where both are the same, or one is not known.

    Example:
        >>> first_difference(["a", "b"], ["a", "c"]), first_difference(["a"], ["a", "b"])
        (1, 1)
        >>> first_difference(["a"], ["a"]), first_difference(None, ["a"])
        (-1, -1)
    """
    if left is None or right is None:
        return -1
    shared = min(len(left), len(right))
    for position in range(shared):
        if left[position] != right[position]:
            return position
    return shared if len(left) != len(right) else -1


def _texts(view: View, rollouts: Sequence[str]) -> dict[str, Record]:
    rows = view.rows("response_tokens", rollouts=sorted(set(rollouts)), most=MOST_TOKENS)
    return {row["rollout_id"]: row for row in rows}


def _verifiers(view: View) -> list[dict[str, Any]]:
    """A table of two by two for each pair of verifiers, or of versions of one."""
    tables: dict[tuple[str, str], dict[str, Any]] = {}
    for row in view.asked("compare_verifiers"):
        names = {"a": row["a"], "b": row["b"]}
        empty = {"counts": dict.fromkeys(CELLS, 0), "examples": dict.fromkeys(CELLS, ())}
        table = tables.setdefault((row["a"], row["b"]), names | empty)
        cell = next(c for c, key in CELLS.items() if key == (row["a_correct"], row["b_correct"]))
        table["counts"][cell], table["examples"][cell] = row["rollouts"], row["examples"]
    return list(tables.values())


PAGE = Page("compare", "/compare", "Compare", QUERIES, load)
