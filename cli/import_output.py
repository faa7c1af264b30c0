"""What an import did, or would do, in words."""

from __future__ import annotations

from collections.abc import Mapping

from s2d_store.importers.import_dump import Imported

_SHOWN_GROUPS = 4
_ALWAYS = frozenset(
    {"rollout_id", "role", "run_id", "group_id", "origin", "source", "prompt_id", "policy_id"}
    | {"purpose", "round", "sample_index", "tokens_from", "created_at"}
)


def print_done(done: Imported) -> None:
    """Counts of an import."""
    print(f"run {done.run_id}: {done.added['rollouts']} rollouts imported{_of(done)}")
    _print_counts(done, "added")


def print_plan(done: Imported, format_: str) -> None:
    """What an import would store, and where each column comes from.

    In a format other than `table` that is a row per column, and nothing else.
    """
    from cli.output import print_rows

    importer, n = done.chosen.importer, done.added["rollouts"]
    if format_ != "table":
        names = dict.fromkeys((*importer.columns, *done.columns))
        each = [(name, importer.columns.get(name), done.columns.get(name)) for name in names]
        print_rows(["stored as", "from", "rollouts"], each, format_)
        return
    print(f"run {done.run_id} would import {n} rollouts{_of(done)}")
    _print_counts(done, "in these files")
    print(f"\nwhere it comes from ({importer.name} {importer.version}):")
    print_rows(["stored as", "from"], [(name, where) for name, where in importer.columns.items()])
    filled = [(name, done.columns[name]) for name in done.columns if name not in _ALWAYS]
    print(f"\nwhat is known, of {n} rollouts:")
    print_rows(["column", "rollouts"], filled)
    print("\nnot in a column of its own:")
    for text in importer.left_out:
        print(f"  {text}")
    print("nothing is stored: leave --plan out to import")


def _of(done: Imported) -> str:
    tokens = f", {done.tokens:,} sampled tokens" if done.tokens else ""
    files = len(done.chosen.files)
    ignored = len(done.chosen.ignored)
    others = f" ({ignored} other files passed over)" if ignored else ""
    return f" from {files} {done.chosen.importer.name} files{others}{tokens}"


def _print_counts(done: Imported, verb: str) -> None:
    groups = done.groups
    if groups:
        shown = [f"{n} of {size}" for size, n in groups.most_common(_SHOWN_GROUPS)]
        more = ", ..." if len(groups) > _SHOWN_GROUPS else ""
        print(f"  {groups.total()} groups: {', '.join(shown)}{more}")
    others = ((name, done.added[name]) for name in ("prompts", "policies", "rewards", "topk"))
    counts = [f"{name} {count}" for name, count in others if count]
    if counts:
        print(f"  {verb}: {', '.join(counts)}")
    if done.matched:
        print(f"  {done.matched} prompts of the store found again by how they render")
    if done.copies:
        print(f"  {done.copies} rollouts left out: stored before, or copies of others")
    _print_reasons("", done.notes)
    if done.rejects:
        where = f", listed in {done.rejects_file}" if done.rejects_file else ""
        print(f"  {done.rejects.total()} rows refused{where}")
        _print_reasons("  ", done.rejects)


def _print_reasons(indent: str, reasons: Mapping[str, int]) -> None:
    for reason, count in sorted(reasons.items(), key=lambda item: -item[1]):
        print(f"{indent}  {count}: {reason}")
