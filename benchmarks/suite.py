"""What `make bench` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks import findings
from benchmarks.findings import Report, Row


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of the suite.

    Attributes:
        name: its module's.
        about: what it compares, in a sentence or two.
        commands: arguments of Python after `-m`, one after another; `{scratch}` is a folder of this
            benchmark's own, `{json}` the file for its figures.
        limit_s: seconds for all its commands.
        rows: its table, from its figures.
        notes: sentences below the table, from its figures.
    """

    name: str
    about: str
    commands: tuple[str, ...]
    limit_s: float
    rows: Callable[[Report], Iterator[Row]]
    notes: Callable[[Report], Iterator[str]] = lambda report: iter(())


SUITE = (
    Benchmark(
        "topk_size",
        "Top-k logprobs on disk, the whole file, read back bit for bit; made rows, about as "
        "compressible as real ones ([README](README.md) has real ones).",
        ("benchmarks.topk_size --json {json}",),
        120,
        findings.sizes,
    ),
    Benchmark(
        "ingest",
        "From vLLM's logprob objects to committed files, on one core.",
        ("benchmarks.ingest --rollouts 1024 --json {json}",),
        120,
        findings.ingesting,
    ),
    Benchmark(
        "chunk_memory",
        "Peak memory of the drivers of `s2d generate` and `s2d score --support policy` with 256 "
        "rollouts of 16,384 tokens at k = 128, libraries included, the model not.",
        ("benchmarks.chunk_memory --json {json}",),
        400,
        findings.held,
    ),
    Benchmark(
        "read_batches",
        "Reading a locked dataset with a teacher's top 64, on synthetic rows.",
        ("benchmarks.read_batches --tokens 100000 --json {json}",),
        180,
        findings.reading,
    ),
    Benchmark(
        "update_sizes",
        "Reading one update with a teacher's top 64 into packed micro-batches of 16,384 tokens, "
        "by the update's size.",
        ("benchmarks.update_sizes --sizes 8x8192 64x8192 512x256 --repeats 3 --json {json}",),
        180,
        findings.update_sizes,
        findings.update_sizes_notes,
    ),
    Benchmark(
        "fused_loss",
        "Forward KL on a teacher's top 64, forward and backward: 1,024 tokens, a vocabulary of "
        "49,152 and hidden states of 576, as SmolLM2-135M has. The saving grows with the "
        "vocabulary.",
        ("benchmarks.fused_loss --tokens 1024 --vocab 49152 --hidden 576 --json {json}",),
        120,
        findings.fused,
    ),
    Benchmark(
        "score_head",
        "The output head of `s2d score` under the transformers engine: 2,048 tokens, k = 64, a "
        "vocabulary of 49,152 and hidden states of 576, as SmolLM2-135M has, in float32.",
        ("benchmarks.score_head --json {json}",),
        120,
        findings.scoring_head,
    ),
    Benchmark(
        "verifier",
        "The verifier pool on made solutions with LaTeX answers.",
        ("benchmarks.verifier --workers 2 --limit 150 --rounds 3 --json {json}",),
        180,
        findings.verifying,
    ),
    Benchmark(
        "verifier_attack",
        "The verifier pool under hostile answers of twelve classes, one second each at most. It "
        "fails where one is lost, held beyond its deadline or graded correct, or memory grows.",
        ("benchmarks.verifier_attack --workers 2 --answers 1000 --json {json}",),
        240,
        findings.nothing,
        findings.attack_notes,
    ),
    Benchmark(
        "faults",
        "SIGKILL at random points of every command that writes. It fails where a row is lost, "
        "doubled or different after the restart, or a lock does not rebuild.",
        ("benchmarks.faults --kills 36 --minutes 6 --json {json}",),
        480,
        findings.nothing,
        findings.fault_notes,
    ),
    Benchmark(
        "object_store",
        "The same steps on a store on S3 (a server on loopback, each request 20 ms late) and on a "
        "disk; 4,000 rollouts.",
        ("benchmarks.object_store --latency-ms 20 --turns 5 --json {json}",),
        120,
        findings.remote,
        findings.remote_notes,
    ),
    Benchmark(
        "hashes",
        "The hash in a data file's name: what it costs the writer, and what it catches.",
        ("benchmarks.hashes --json {json}",),
        90,
        findings.hashing,
        findings.hashing_notes,
    ),
    Benchmark(
        "startup",
        "Whole processes.",
        ("benchmarks.startup --repeats 7 --json {json}",),
        120,
        findings.starting,
        findings.starting_notes,
    ),
    Benchmark(
        "look_up",
        "One rollout among the rollouts of 300 uncompacted files.",
        ("benchmarks.look_up --files 300 --json {json}",),
        120,
        findings.looking_up,
    ),
    Benchmark(
        "scale",
        "Stores of 50, 100 and 200 thousand rollouts; the picture shows some queries and audits.",
        (
            "benchmarks.synthetic_store {scratch}/50,000 --rollouts 50000",
            "benchmarks.synthetic_store {scratch}/100,000 --rollouts 100000",
            "benchmarks.synthetic_store {scratch}/200,000 --rollouts 200000",
            "benchmarks.scale {scratch}/50,000 {scratch}/100,000 {scratch}/200,000 --repeats 1 "
            "--json {json}",
        ),
        300,
        findings.scaling,
    ),
    Benchmark(
        "writers",
        "Eight processes append 100 times each to one store, to three tables a commit, while "
        "another compacts it and a third reads whole snapshots.",
        ("benchmarks.writers --writers 8 --commits 100 --json {json}",),
        420,
        findings.nothing,
        findings.writing_notes,
    ),
    Benchmark(
        "commits",
        "One row per commit, again and again; at each size, means of 50 commits.",
        ("benchmarks.commits --seconds 420 --json {json}",),
        600,
        findings.committing,
        findings.committing_notes,
    ),
)
