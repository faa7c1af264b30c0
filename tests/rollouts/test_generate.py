"""`s2d generate` with a real tiny model: what is stored, what repeats, what is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli import progress as display
from s2d_store.rollouts.progress import Progress
from s2d_store.store import Store
from tests.conftest import Cli, Result
from tests.support import made_stores
from tests.support.tiny_models import BOS_ID, save_tiny_model, tiny_vocabulary

Generate = Callable[..., Result]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, questions: Path, teacher_folder: Path) -> Store:
    """8 prompts, no rollouts."""
    root = tmp_path_factory.mktemp("made") / "store"
    return made_stores.make(root, made_stores.read(questions), teacher_folder)


@pytest.fixture
def store(made: Store, tmp_path: Path) -> Store:
    return made_stores.copy(made, tmp_path / "store")


@pytest.fixture
def generate(cli: Cli, tmp_path: Path, teacher_folder: Path) -> Generate:
    """Run `s2d generate` as the teacher on 8 prompts, 8 tokens each, unless told otherwise."""

    def run(
        *options: object, root: Path = tmp_path / "store", policy: object = teacher_folder
    ) -> Result:
        usual = ("--policy", policy, "--role", "teacher", "--max-tokens", 8)
        return cli("generate", *usual, *options, "--store", root)

    return run


def rollouts(store: Store, columns: str = "prompt_id, sample_index, response_token_ids") -> Any:
    text = f"SELECT {columns} FROM rollouts ORDER BY prompt_id, sample_index"
    return store.sql(text).fetchall()


def test_rollouts_are_stored_with_tokens_logprobs_and_topk(
    generate: Generate, store: Store
) -> None:
    done = generate("--n", 2, "--top-logprobs", 5, "--temperature", 0.7)
    assert done.code == 0, done.err
    assert re.match(r"run generate-teacher-[0-9a-f]{8}: 16 rollouts stored, \d+ tokens\n", done.out)
    vocabulary = tiny_vocabulary()
    rows = store.sql(
        "SELECT r.response_token_ids, r.response_logprobs, r.response_text, r.finish_reason, "
        "r.prompt_token_ids, p.messages[1].content, t.k, t.token_ids, t.logprobs, "
        "t.sampled_logprobs, r.response_tokens, r.prompt_tokens FROM rollouts AS r "
        "JOIN prompts AS p USING (prompt_id) JOIN policy_topk AS t USING (rollout_id)"
    ).fetchall()
    assert len(rows) == 16
    for tokens, logprobs, text, finish, prompt, content, k, ids, top, sampled, n, n_prompt in rows:
        assert (len(tokens), len(logprobs), len(prompt)) == (n, n, n_prompt)
        rendered = "".join(vocabulary[i] for i in prompt)
        assert rendered == f"user: {content}\nassistant: "
        kept = [vocabulary[i] for i in tokens if i > BOS_ID + 2]
        assert text == "".join(kept)
        assert finish == ("stop" if n < 8 or tokens[-1] == 2 else "length")
        assert (k, len(ids), len(top)) == (5, 5 * n, 5 * n)
        assert sampled == logprobs
        ids_TK, top_TK = np.reshape(ids, (n, 5)), np.reshape(top, (n, 5))
        assert (np.diff(top_TK, axis=1) <= 0).all()
        for token, logprob, row, values in zip(tokens, logprobs, ids_TK, top_TK, strict=True):
            if token in row:
                assert values[list(row).index(token)] == pytest.approx(logprob, abs=1e-6)
            else:
                assert logprob <= values[-1]
    ((kind, status, config),) = store.sql("SELECT kind, status, config FROM runs").fetchall()
    assert (kind, status) == ("generate", "done")
    assert json.loads(config)["temperature"] == 0.7


def test_a_repeated_command_adds_nothing_and_a_larger_one_the_rest(
    generate: Generate, store: Store
) -> None:
    generate("--n", 1, "--limit", 3)
    first = rollouts(store)
    versions = store.snapshot().versions
    done = generate("--n", 1, "--limit", 3)
    assert "0 rollouts stored, 0 tokens\n  3 were stored before\n" in done.out
    assert store.snapshot().versions["rollouts"] == versions["rollouts"]
    done = generate("--n", 2, "--limit", 3)
    assert "3 rollouts stored" in done.out
    done = generate("--n", 2)
    assert "10 rollouts stored" in done.out and "6 were stored before" in done.out
    rows = rollouts(store)
    assert len(rows) == len({row[:2] for row in rows}) == 16
    assert [row for row in rows if row in first] == first, "what was stored stays as it was"
    assert store.sql("SELECT count(DISTINCT run_id) FROM rollouts").fetchall() == [(1,)]
    assert [row[0] for row in store.sql("SELECT status FROM runs").fetchall()] == ["done"]


def test_a_fresh_store_gets_the_same_rollouts(
    generate: Generate, made: Store, store: Store, tmp_path: Path
) -> None:
    other = made_stores.copy(made, tmp_path / "other")
    generate("--n", 2, "--seed", 7)
    generate("--n", 2, "--seed", 7, "--chunk", 4, "--batch-size", 4, root=other.root)
    columns = "rollout_id, prompt_id, sample_index, seed, response_token_ids, response_text"
    assert rollouts(store, columns) == rollouts(other, columns)
    generate("--n", 2, "--seed", 8)
    both = store.sql("SELECT count(DISTINCT response_text) FROM rollouts").fetchall()
    assert both[0][0] > 16, "another seed samples other rollouts, as another run"


def test_where_and_limit_choose_prompts(generate: Generate, store: Store) -> None:
    generate("--where", "(meta->>'level')::INT < 3")
    assert len(rollouts(store)) == 3
    done = generate("--where", "split = 'nope'")
    assert done.code == 1
    assert "no prompts to work on: none of 8 matches \"split = 'nope'\"" in done.err
    assert "splits in the store: train" in done.err
    done = generate("--where", "lable = 3")
    assert done.code == 1
    assert "error: --where 'lable = 3' does not work on prompts" in done.err
    assert 'column "lable" not found' in done.err
    assert done.err.count("error:") == 1
    for wrong in ("split =", "1=1); SELECT (1", "1=1) -- "):
        done = generate("--where", wrong)
        assert done.code == 1 and len(rollouts(store)) == 3
        assert done.err.startswith(f"error: --where {wrong!r} does not work on prompts")


def test_an_empty_store_says_what_to_do(generate: Generate, tmp_path: Path) -> None:
    done = generate(root=Store.init(tmp_path / "empty").root)
    assert done.code == 1
    assert "the store holds no prompts" in done.err and "s2d prompts add" in done.err


def test_a_chat_template_is_needed_given_or_refused(
    generate: Generate, store: Store, tmp_path: Path
) -> None:
    base = save_tiny_model(tmp_path / "base", seed=5, chat_template=False)
    done = generate(policy=base)
    assert done.code == 1
    assert "the policy's tokenizer has no chat template" in done.err
    assert "--no-chat-template" in done.err
    assert generate("--no-chat-template", policy=base).code == 0
    template = tmp_path / "qa.jinja"
    template.write_text("Q: {{ messages[0]['content'] }} A:")
    assert generate("--template", template, policy=base).code == 0
    starts = {
        "".join(tiny_vocabulary()[i] for i in ids[:3])
        for (ids,) in rollouts(store, "prompt_token_ids")
    }
    assert starts == {"Q: "} | {f"{a}+{a + 1}" for a in range(8)}
    template.write_text("{% if %}")
    done = generate("--template", template, policy=base)
    assert done.code == 1 and "the chat template rejects the prompt" in done.err
    done = generate("--template", tmp_path / "none.jinja", policy=base)
    assert done.code == 1 and "no chat template file" in done.err


def test_too_long_prompts_are_refused_or_left_out(
    generate: Generate, cli: Cli, store: Store, tmp_path: Path
) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"question": "9" * 60, "answer": "1"}) + "\n")
    cli("prompts", "add", long, "--store", store.root)
    done = generate("--max-model-len", 60)
    assert done.code == 1
    assert "has 78 tokens, too long with --max-tokens 8" in done.err
    assert "1 of 9 rollouts do not fit" in done.err
    assert rollouts(store) == []
    for expected in ("8 rollouts stored", "0 rollouts stored"):
        done = generate("--max-model-len", 60, "--skip-too-long")
        assert (done.code, expected in done.out) == (0, True), done.err
        assert "1 prompts left out as too long" in done.out
    done = generate(
        "--max-model-len", 60, "--skip-too-long", "--where", "source = 'long'", "--run", "x"
    )
    assert done.code == 1 and "1 of 1 rollouts do not fit" in done.err


REFUSED = {
    "an unknown policy": (("--policy", "theacher"), "no policy 'theacher' in this store"),
    "a folder that is none": (("--policy", "./none"), "policy folder ./none does not exist"),
    "k above the vocabulary": (("--top-logprobs", 101), "--top-logprobs between 0 and 100"),
    "a negative k": (("--top-logprobs", -1), "--top-logprobs -1 is not usable"),
    "no rollouts per prompt": (("--n", 0), "--n 0 is not usable"),
    "a negative limit": (("--limit", -2), "--limit -2 is not usable"),
    "an empty chunk": (("--chunk", 0), "--chunk 0 is not usable"),
    "no tokens": (("--max-tokens", 0), "max_tokens is 0"),
    "a temperature below zero": (("--temperature", -1), "temperature is -1.0"),
    "an unknown role": (("--role", "boss"), "it is teacher or student"),
    "an unknown purpose": (("--purpose", "fun"), "it is train or eval"),
    "an unknown engine": (("--engine", "abacus"), "engine 'abacus' is unknown"),
    "an unknown engine argument": (("--engine-arg", "x=1"), "max_batch_tokens=N only"),
    "an engine argument without value": (("--engine-arg", "x"), "'x' is not NAME=VALUE"),
    "an unknown verifier": (("--verify", "--verifier", "v"), "no verifier is named 'v'"),
    "a run name that is a path": (("--run", "../x"), "run '../x' is not a usable name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_settings_are_one_clear_error(generate: Generate, made: Store, case: str) -> None:
    options, says = REFUSED[case]
    done = generate(*options, root=made.root)
    assert (done.code, done.out) == (1, "")
    # Some are found out once the model is loaded, which is said before.
    said = [line for line in done.err.splitlines() if not line.startswith("generate: loading")]
    assert said[0].startswith("error: ") and done.err.count("error:") == 1
    assert says in done.err
    assert rollouts(made) == []


def test_a_run_keeps_its_configuration(generate: Generate, store: Store) -> None:
    assert generate("--run", "mine", "--top-logprobs", 500).code == 1
    assert generate("--run", "mine", "--limit", 2).code == 0, "a refused run left nothing"
    done = generate("--run", "mine", "--temperature", 0.5, "--seed", 3)
    assert done.code == 1
    assert "error: run mine exists with another configuration" in done.err
    assert "seed: stored 0, now 3; temperature: stored 1.0, now 0.5" in done.err
    assert len(rollouts(store)) == 2
    assert generate("--run", "mine", "--limit", 3, "--batch-size", 2).code == 0
    assert len(rollouts(store)) == 3


def test_verify_grades_each_chunk_as_it_comes(generate: Generate, store: Store) -> None:
    done = generate("--n", 2, "--verify", "--chunk", 4, "--batch-size", 4, "--verify-workers", 1)
    assert "of 16 graded" in done.out
    rows = store.sql("SELECT outcome, reward, verifier FROM graded_rollouts").fetchall()
    assert len(rows) == 16
    assert all((o == "correct") == (r == 1.0) and v == "math-verify" for o, r, v in rows)
    assert store.snapshot().versions["rollouts"] == 4, "four chunks of four"


def test_quiet_says_nothing_but_the_summary(
    generate: Generate, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)
    done = generate("--quiet")
    assert done.err == "" and done.out.startswith("run generate-teacher-")
    done = generate("--n", 2, "--chunk", 2, "--batch-size", 2)
    loading, *lines = done.err.splitlines()
    assert loading.startswith("generate: loading teacher (")
    pattern = r"generate \d/8: \d stored, [\d,]+ tokens/s, \d+:\d\d:\d\d left"
    assert len(lines) >= 8 and all(re.fullmatch(pattern, line) for line in lines), done.err
    assert "\x1b" not in done.err and "\r" not in done.err


def test_rates_and_time_left_in_words() -> None:
    at = Progress(total=100, done=25, committed=20, tokens=5000, graded=8, reward=2.0)
    assert display.describe(at, 10.0) == "20 stored, 500 tokens/s, pass rate 0.250"
    assert display.time_left(at, 1800.0) == "1:30:00"
    assert display.time_left(Progress(total=3), 5.0) == "?"


def test_an_edited_template_or_tokenizer_is_another_run(
    generate: Generate, store: Store, student_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(student_folder, folder)
    assert generate("--limit", 2, policy=folder).code == 0
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}>")
    done = generate("--limit", 4, policy=folder)
    assert done.code == 0 and "4 rollouts stored" in done.out, done.err
    assert "stored before" not in done.out
    text = (
        "SELECT count(DISTINCT r.run_id), count(DISTINCT policy_id), "
        "count(DISTINCT u.config ->> '$.template_hash') FROM rollouts AS r JOIN runs AS u "
        "USING (run_id)"
    )
    assert store.sql(text).fetchall() == [(2, 1, 2)]
    assert generate("--run", "mine", "--limit", 1, policy=folder).code == 0
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}=")
    done = generate("--run", "mine", "--limit", 2, policy=folder)
    assert done.code == 1 and "run mine exists with another configuration" in done.err
    assert "template_hash" in done.err
    given = tmp_path / "mine.jinja"
    given.write_text("{{ messages[0].content }}=")
    done = generate("--limit", 1, "--template", given, policy=folder)
    assert "1 rollouts stored" in done.out, "its text is a setting of its own"


def test_template_variables_are_part_of_the_run(
    generate: Generate, store: Store, tmp_path: Path
) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages[0].content }}{% if brief %}!{% else %}?{% endif %}")
    option = "--chat-template-kwargs"
    for given in ("", '{"brief": true}', '{"brief": false}'):
        done = generate("--limit", 1, "--template", template, option, given)
        assert done.code == 0 and "1 rollouts stored" in done.out, done.err
    vocabulary = tiny_vocabulary()
    rows = store.sql("SELECT prompt_token_ids[-1] FROM rollouts").fetchall()
    assert sorted(vocabulary[i] for (i,) in rows) == ["!", "?", "?"]
    for given, says in (
        ("[1]", "is no JSON object"),
        ('{"tokenize": false}', "cannot set 'tokenize'"),
    ):
        done = generate("--template", template, option, given)
        assert done.code == 1 and says in done.err and "Traceback" not in done.err
    done = generate("--no-chat-template", option, '{"a": 1}')
    assert done.code == 1 and "without a template nothing reads them" in done.err


def test_padding_of_the_vocabulary_is_neither_sampled_nor_kept(
    generate: Generate, store: Store, tmp_path: Path
) -> None:
    """The padding is as likely as the tokens: without a mask every third would be of it."""
    folder = save_tiny_model(tmp_path / "padded", seed=3, padding=50)
    done = generate("--n", 8, "--top-logprobs", 100, policy=folder)
    assert done.code == 0, done.err
    text = "SELECT max(list_max(response_token_ids)), count(*) FROM rollouts"
    assert store.sql(text).fetchall()[0][0] < 100
    text = "SELECT max(list_max(token_ids)), min(len(list_distinct(token_ids))) FROM topk"
    assert store.sql(text).fetchall() == [(99, 100)]
    mass = "SELECT max(list_sum([exp(x) for x in logprobs]) / (len(logprobs) / k)) FROM topk"
    assert store.sql(mass).fetchall()[0][0] < 0.99, "logprobs are of the whole output"
    done = generate("--n", 9, "--top-logprobs", 101, policy=folder)
    assert done.code == 1 and "top k of 101 cannot be kept" in done.err
    done = generate("--temperature", 0, "--limit", 2, policy=folder)
    assert (
        done.code == 0
        and store.sql("SELECT max(list_max(response_token_ids)) FROM rollouts").fetchall()[0][0]
        < 100
    )
