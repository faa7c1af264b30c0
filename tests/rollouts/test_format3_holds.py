"""Other systems' dumps, record by record, as rows of a store: read back by SQL, nothing is lost."""

from __future__ import annotations

from collections import defaultdict

import pytest

from s2d_store.store import Store
from tests.support.dump_prime_rl import PRIME_RL
from tests.support.dump_rows import (
    Format,
    dumps,
    imported,
    left_over,
    part_of,
    rebuilt,
    same,
    stored_entries,
)
from tests.support.dump_texts import TEXTS
from tests.support.dump_tokens import TOKENS
from tests.support.dump_vllm import VLLM_BATCH

FORMATS = {made.name: made for made in (*TEXTS, *TOKENS, PRIME_RL, VLLM_BATCH)}


@pytest.fixture(params=FORMATS)
def made(request: pytest.FixtureRequest) -> Format:
    name = str(request.param)
    if name == "slime":
        pytest.importorskip("torch")
    return FORMATS[name]


def test_every_folder_of_dumps_is_known() -> None:
    folders = {path.name for path in dumps().iterdir() if path.is_dir()}
    assert folders - {"toy-tokenizer"} == FORMATS.keys()


def test_every_record_comes_back_from_its_rows(made: Format, store: Store) -> None:
    folder = dumps() / made.name
    entries = {(entry.file, entry.line): entry.record for entry in made.read(folder)}
    done = imported(store, made, folder)
    assert (done.chosen.importer.name, done.rejects.total()) == (made.importer, 0)
    found = stored_entries(store)
    assert found and len(entries) - len(found) == done.copies
    rests: dict[str, int] = defaultdict(int)
    for place, parts in found.items():
        assert same(rebuilt(made, parts), entries[place]), place
        for path in left_over(made, part_of(parts[0].rollout)["rest"]):
            rests[path] += 1
    # An empty place, such as a failed request's body, stands for all that may lie in it.
    under = {
        path: [r for r in made.rest if f"{path}.".startswith(f"{r}.") or r.startswith(f"{path}.")]
        for path in rests
    }
    assert [p for p, roots in under.items() if not roots] == [], "only these have no column"
    assert {root for roots in under.values() for root in roots} == made.rest


# Columns of table rollouts that hold something, beside those of every import.
ALWAYS = {"rollout_id", "role", "run_id", "group_id", "origin", "source", "prompt_id", "policy_id"}
ALWAYS |= {"purpose", "round", "sample_index", "tokens_from", "created_at"}
IDS = {"prompt_token_ids", "response_token_ids", "prompt_tokens", "response_tokens"}
IDS |= {"sampled_tokens"}
COLUMNS = {
    "inspect": {"temperature", "messages", "response_text", "finish_reason"},
    "lm_eval": {"temperature", "max_tokens", "sampling_extra", "response_text"}
    | {"engine", "engine_version"},
    "verifiers_v0": {"temperature", "max_tokens", "seed", "episode_id", "messages"}
    | {"response_text", "finish_reason"},
    "verl": {"response_text"},
    "trl": {"messages", "response_text"},
    "nemo_gym": IDS | {"agent", "sampler_logprobs", "messages", "response_text"},
    "prime_rl": IDS
    | {"episode_id", "agent", "temperature", "max_tokens", "endpoint", "response_mask"}
    | {"sampler_logprobs", "policy_spans", "turns", "messages", "finish_reason"}
    | {"response_text"},
    "open_instruct": IDS | {"sampler_logprobs", "finish_reason"},
    "slime": IDS
    | {"sampler_logprobs", "policy_spans", "messages", "finish_reason"}
    | {"response_text"},
    "vllm_batch": IDS
    | {"temperature", "top_p", "max_tokens", "seed", "engine", "messages"}
    | {"parent_rollout_id", "parent_tokens", "response_mask", "response_logprobs"}
    | {"response_text", "finish_reason"},
}


def test_what_a_dump_does_not_know_is_null(made: Format, store: Store) -> None:
    imported(store, made, dumps() / made.name)
    rows = store.sql("SELECT * FROM rollouts").to_arrow_table().to_pylist()
    known = {name for row in rows for name, value in row.items() if value is not None}
    assert known - ALWAYS == COLUMNS[made.name]
    assert {row["origin"] for row in rows} == {"imported"}
    if made in TEXTS:
        assert {row["tokens_from"] for row in rows} == {"none"}
    for row in rows:
        assert (row["tokens_from"] == "none") == (row["response_token_ids"] is None)
    kinds = "SELECT DISTINCT kind, tokenizer_fingerprint, vocab_size FROM policies"
    assert store.sql(kinds).fetchall() == [("outside", None, None)]
    assert set(store.sql("SELECT outcome FROM rewards").fetchall()) <= {("reported",)}
    right = "SELECT count(*) FROM rewards WHERE is_correct(outcome, reward) IS NOT NULL"
    assert store.sql(right).fetchall() == [(0,)]


def test_importing_again_adds_nothing(made: Format, store: Store) -> None:
    first = imported(store, made, dumps() / made.name)
    again = imported(store, made, dumps() / made.name)
    assert first.added.total() > 0 and again.added.total() == 0
    assert again.copies == first.copies + first.added["rollouts"]


# Rollouts, their groups, and the size of each group.
GROUPS = {
    "nemo_gym": (5, 1, {5}),
    "inspect": (11, 11, {1}),
    "lm_eval": (10, 10, {1}),
    "verifiers_v0": (6, 3, {1, 2, 3}),
    # The failed episode counts: it was sampled together with four others.
    "prime_rl": (13, 3, {4, 5}),
    "verl": (18, 6, {2, 4}),
    "open_instruct": (12, 3, {4}),
    "slime": (12, 3, {4}),
    "trl": (32, 8, {4}),
    # One is the token after a scored sequence, one a request that failed.
    "vllm_batch": (12, 8, {1, 2}),
}


def test_groups_are_those_of_the_dump(made: Format, store: Store) -> None:
    imported(store, made, dumps() / made.name)
    groups = store.sql(
        "SELECT count(*), count(DISTINCT prompt_id), list(sample_index ORDER BY sample_index) "
        "FROM rollouts GROUP BY group_id"
    ).fetchall()
    rollouts, n_groups, sizes = GROUPS[made.name]
    assert (sum(n for n, _, _ in groups), len(groups)) == (rollouts, n_groups)
    assert {n for n, _, _ in groups} == sizes and {prompts for _, prompts, _ in groups} == {1}
    assert all(indices == list(range(n)) for n, _, indices in groups)


def test_copies_of_rows_add_nothing(store: Store) -> None:
    """TRL logs the same rows at two steps; prime-rl's `effective` repeats a part of `all`."""
    for name, copies in (("trl", 16), ("prime_rl", 8)):
        there = Store.init(store.root.parent / name)
        assert imported(there, FORMATS[name], dumps() / name).copies == copies


def test_a_tool_s_tokens_are_masked_and_have_no_logprob(store: Store) -> None:
    imported(store, PRIME_RL, dumps() / "prime_rl")
    (row,) = (
        store.sql(
            "SELECT response_mask, sampler_logprobs, sampled_tokens, list_transform(turns, "
            "lambda t: t.role) AS roles, list_transform(policy_spans, lambda s: s.start) AS starts "
            "FROM rollouts WHERE episode_id = 'ep-2-3'"
        )
        .to_arrow_table()
        .to_pylist()
    )
    assert row["response_mask"] == [True] * 13 + [False] * 3 + [True] * 2
    assert [x is None for x in row["sampler_logprobs"]] == [not m for m in row["response_mask"]]
    assert (row["sampled_tokens"], row["roles"]) == (15, ["assistant", "tool", "assistant"])
    assert row["starts"] == [0, None], "the weights changed at a token that nobody knows"


def test_a_logprob_that_is_no_number_is_null(store: Store) -> None:
    imported(store, FORMATS["open_instruct"], dumps() / "open_instruct")
    empty = "SELECT sampler_logprobs FROM rollouts WHERE response_tokens = 1"
    assert store.sql(empty).fetchall() == [([None],)]


def test_scores_of_a_given_sequence_are_its_top_k(store: Store) -> None:
    imported(store, VLLM_BATCH, dumps() / "vllm_batch")
    (row,) = (
        store.sql(
            "SELECT t.k, r.response_tokens, r.sampled_tokens, len(t.token_ids) AS entries, "
            "t.sampled_logprobs = r.response_logprobs AS scored, t.token_ids, t.logprobs "
            "FROM topk t JOIN rollouts r USING (rollout_id) WHERE support = 'own'"
        )
        .to_arrow_table()
        .to_pylist()
    )
    assert (row["k"], row["response_tokens"], row["sampled_tokens"]) == (3, 14, 0)
    assert row["entries"] == 42 and row["scored"]
    starts = range(0, 42, 3)
    tops = [row["logprobs"][i : i + 3] for i in starts]
    assert all(top == sorted(top, reverse=True) for top in tops)
    child = "SELECT parent_tokens, sampled_tokens FROM rollouts WHERE parent_tokens IS NOT NULL"
    assert store.sql(child).fetchall() == [(14, 1)]
