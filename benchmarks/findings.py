"""What the page of results takes from each benchmark's figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

Report = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """A line of a benchmark's table.

    Attributes:
        what: is measured, with its unit.
        peer: what s2d is compared with.
        ours, theirs: figures.
        better: how many times better s2d is; below 1, how much worse.
    """

    what: str
    peer: str
    ours: float
    theirs: float
    better: float


def more(what: str, peer: str, ours: float, theirs: float) -> Row:
    """Where more is better."""
    return Row(what, peer, ours, theirs, ours / theirs)


def less(what: str, peer: str, ours: float, theirs: float) -> Row:
    """Where less is better."""
    return Row(what, peer, ours, theirs, theirs / ours)


def reading(report: Report) -> Iterator[Row]:
    """Of read_batches."""
    compared = report["compared"]
    speeds = {name: median(figures["tokens_per_s"]) for name, figures in compared.items()}
    peers = {
        "parquet": "bare pyarrow, the same columns, nothing built",
        "nested": "`datasets`, torch format, lists of lists",
        "flat": "`datasets`, torch format, flat lists, uncompressed",
    }
    for name, peer in peers.items():
        yield more("packed torch batches, tokens/s", peer, speeds["packed"], speeds[name])
    peer = "`datasets`, the same Parquet streamed, NumPy format"
    yield more("an update's rows as arrays, tokens/s", peer, speeds["updates"], speeds["stream"])


def update_sizes(report: Report) -> Iterator[Row]:
    """Of update_sizes."""
    for size in report["sizes"]:
        update = f"an update of {size['rows']:,} rows of {size['mean_tokens']:,} tokens"
        what = f"tokens per CPU second, {update}"
        yield Row(what, "bare pyarrow", size["packed"], size["bare"], size["of_bare"])


def update_sizes_notes(report: Report) -> Iterator[str]:
    """Of update_sizes."""
    found = [
        f"{size['rows']:,} x {size['mean_tokens']:,}: {size['peak_mib'] - size['before_mib']:,.0f} "
        f"MiB and {size['first_wall_s']:.2f} s ({size['first_cpu_s']:.2f} of CPU)"
        for size in report["sizes"]
    ]
    yield (
        "What reading adds to a process's peak memory, and seconds to the first batch: "
        f"{'; '.join(found)}."
    )


def sizes(report: Report) -> Iterator[Row]:
    """Of topk_size."""
    peers = {
        "jsonl": "JSONL",
        "nested": "nested lists in Parquet, zstd",
        "floats": "flat lists in Parquet, float32 logprobs (format 1)",
    }
    for row in report["rows"]:
        for name, peer in peers.items():
            yield less(f"bytes per token, k = {row['k']}", peer, row["s2d"], row[name])
        yield less(f"time of a sum in SQL, k = {row['k']}", peers["floats"], row["sql"], 1.0)


def ingesting(report: Report) -> Iterator[Row]:
    """Of ingest."""
    ours, theirs = (median(report["tokens_per_cpu_s"][name]) for name in ("s2d", "bare"))
    what = f"tokens per CPU second, k = {report['k']}"
    yield Row(what, "bare pyarrow, nothing checked", ours, theirs, median(report["ratios"]))


def held(report: Report) -> Iterator[Row]:
    """Of chunk_memory."""
    peer = "all of their ids and logprobs as arrays"
    for driver in ("generate", "score"):
        what = f"peak memory of `s2d {driver}`, MiB"
        yield less(what, peer, report[driver]["peak_mib"], report["arrays_mib"])


def hashing(report: Report) -> Iterator[Row]:
    """Of hashes."""
    ratio = median(report["write_ratios"])
    yield less("time to write a file, in units of the peer's", "no hash", ratio, 1.0)


def hashing_notes(report: Report) -> Iterator[str]:
    """Of hashes."""
    silent = report["silent"]
    yield (
        f"Of {report['flips']} files with one bit flipped, pyarrow read {silent['pyarrow']} as "
        f"other values without an error, DuckDB {silent['DuckDB']}; the hash missed "
        f"{silent['hash']}."
    )


def fused(report: Report) -> Iterator[Row]:
    """Of fused_loss."""
    ours, dense = report["s2d"], report["dense"]
    peer = "dense log-softmax"
    yield less(
        "peak memory beyond the weights, MiB", peer, ours["peak"] / 2**20, dense["peak"] / 2**20
    )
    for clock, name in (("cpu", "CPU seconds"), ("wall", "seconds")):
        better = median(d / o for d, o in zip(dense[clock], ours[clock], strict=True))
        what = f"{name} of a pass forward and back"
        yield Row(what, peer, median(ours[clock]), median(dense[clock]), better)


def scoring_head(report: Report) -> Iterator[Row]:
    """Of score_head."""
    for support, found in report.items():
        ours, dense = found["blocks"], found["dense"]
        peer = "dense logits of a chunk of tokens"
        what = f"peak memory beyond the inputs, MiB, {support}"
        yield less(what, peer, ours["peak"] / 2**20, dense["peak"] / 2**20)
        better = median(d / o for d, o in zip(dense["cpu"], ours["cpu"], strict=True))
        seconds = median(ours["cpu"]), median(dense["cpu"])
        yield Row(f"CPU seconds, {support}", peer, *seconds, better)


def verifying(report: Report) -> Iterator[Row]:
    """Of verifier, with one number of workers."""
    workers = report["workers"][0]
    pairs = [(own, pool) for _, ((own, pool),) in report["rounds"]]
    peer = f"math-verify in {workers} processes of its own"
    for field, what, turn in (
        ("items_s", f"answers/s, {workers} workers", 1),
        ("cpu_ms", "CPU milliseconds an answer", -1),
    ):
        ours, theirs = (median(pair[at][field] for pair in pairs) for at in (1, 0))
        better = median((pool[field] / own[field]) ** turn for own, pool in pairs)
        yield Row(what, peer, ours, theirs, better)


def looking_up(report: Report) -> Iterator[Row]:
    """Of look_up."""
    many, one = report["many"], report["one"]
    files = f"of {report['files']:,} files"
    what = f"CPU ms of one rollout by its id in SQL, {files}"
    yield less(what, "every file opened", many["sql"], many["sql, all files"])
    yield less(what, "a store of one file", many["sql"], one["sql"])
    yield less(
        f"CPU ms of `Store.rollout`, {files}",
        "a store of one file",
        many["rollout"],
        one["rollout"],
    )


def starting(report: Report) -> Iterator[Row]:
    """Of startup."""
    seconds = report["seconds"]
    for peer in ("python -c pass", "import typer, rich", "import torch"):
        yield less("seconds of `s2d --help`", f"`{peer}`", seconds["s2d --help"], seconds[peer])


def starting_notes(report: Report) -> Iterator[str]:
    """Of startup."""
    loaded = ", ".join(report["heavy_imports"]) or "none"
    yield f"`s2d --help` loads of the heavy libraries: {loaded}."


def committing(report: Report) -> Iterator[Row]:
    """Of commits: the last size, the first, and the last as others do it."""
    sizes = list(grown(report))
    first, last = report[sizes[0]], report[sizes[-1]]
    at = f"a commit, CPU ms, at {sizes[-1]} commits"
    yield less(at, f"the same at {sizes[0]}", last["commit CPU"], first["commit CPU"])
    others = {
        "commit": ("delta-rs's own transaction", "delta-rs commit"),
        "open": ("a log without checkpoints", "bare open"),
    }
    for name, what in (("commit", "a commit"), ("open", "opening the table")):
        at = f"{what}, ms, at {sizes[-1]} commits"
        yield less(at, f"the same at {sizes[0]}", last[name], first[name])
        peer, key = others[name]
        yield less(at, peer, last[name], last[key])
    at = f"a commit that looks its keys up, ms, at {sizes[-1]}"
    yield less(at, "a look-up in every file", last["look-up"], last["look-up in all"])
    after = report["compacted"]
    what = "counting the table's rows in SQL, ms, compacted"
    yield less(what, "as it was before", after["count"], last["count"])


def committing_notes(report: Report) -> Iterator[str]:
    """Of commits."""
    size = list(grown(report))[-1]
    before, after = report[size]["log MiB"], report["vacuumed"]["log MiB"]
    yield (
        f"At {size} commits the table's log holds {before:.1f} MiB, most of it old checkpoints; "
        f"after `s2d vacuum --older-than` {after:.1f} MiB."
    )


def grown(report: Report) -> Iterator[str]:
    """The rows of commits' report that are sizes."""
    return (name for name in report if name.replace(",", "").isdigit())


def nothing(report: Report) -> Iterator[Row]:
    """Of a benchmark that compares with nothing."""
    return iter(())


def attack_notes(report: Report) -> Iterator[str]:
    """Of verifier_attack."""
    outcomes = sorted(report["outcomes"].items(), key=lambda item: -item[1])
    yield (
        f"{report['answers']:,} answers in {report['seconds']:.0f} s: "
        + ", ".join(f"{n:,} {outcome}" for outcome, n in outcomes)
        + "."
    )
    yield (
        f"The longest took {report['longest_s']:.2f} s of {report['deadline_s']:g} s; a worker "
        f"held {report['worker_mib']} MiB at most. Ordinary answers took "
        f"{report['cpu_ms_before']:.2f} ms of CPU before, {report['cpu_ms_after']:.2f} ms after."
    )


def fault_notes(report: Report) -> Iterator[str]:
    """Of faults."""
    yield (
        f"{report['kills']} kills of {', '.join(report['commands'])}, {report['inside']} of them "
        f"inside a write: {len(report['failures'])} failures."
    )


def remote(report: Report) -> Iterator[Row]:
    """Of object_store."""
    for name, figures in report.items():
        yield less(f"{name}, ms", "a disk", figures["S3 s"] * 1e3, figures["disk s"] * 1e3)


def remote_notes(report: Report) -> Iterator[str]:
    """Of object_store."""
    yield (
        "Requests of each step: "
        + ", ".join(f"{name} {figures['requests']:.0f}" for name, figures in report.items())
        + "."
    )


def writing_notes(report: Report) -> Iterator[str]:
    """Of writers."""
    yield (
        f"{report['rows']:,} of {report['rows_expected']:,} rows are there, each once, after "
        f"{report['commits']:,} commits in {report['seconds']:.0f} s; "
        f"{report['failed_processes']} processes failed."
    )
    yield (
        f"{report['retried']:,} of {report['table_commits']:,} commits to a table were overtaken "
        f"by others and retried; {report['compacted_files']:,} files were compacted meanwhile."
    )
    yield (
        f"{report['snapshots_read']:,} snapshots read meanwhile held {report['faulty_rows']} rows "
        "that were torn or doubled."
    )


def scaling(report: Report) -> Iterator[Row]:
    """Of scale: the largest store."""
    name, seconds = list(report["seconds"].items())[-1]
    build = next(value for what, value in seconds.items() if what.startswith("build warmup"))
    copy = seconds["copy of the warmup's files"]
    what = f"seconds to build a dataset with top-k from {name} rollouts"
    yield less(what, "copying its files with pyarrow", build, copy)
