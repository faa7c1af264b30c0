"""`--map FIELD=PATH`: any JSONL or Parquet, as OpenR1 and DeepMath have them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s2d_store.errors import InputError
from s2d_store.importers.import_dump import Imported, import_dump
from s2d_store.importers.mapped import parse
from s2d_store.importers.settings import ImportConfig
from s2d_store.store import Store


def run(store: Store, path: Path, *fields: str, policy: str = "r1") -> Imported:
    rejects = str(path.parent / "rejects.jsonl")
    config = ImportConfig(
        format="map", paths=(str(path),), map=fields, policy=policy, rejects=rejects
    )
    return import_dump(store, config)


def stored(store: Store) -> list[tuple[Any, ...]]:
    return store.sql(
        "SELECT r.response_text, r.finish_reason, p.answer, w.reward FROM rollouts r "
        "JOIN prompts p USING (prompt_id) LEFT JOIN rewards w USING (rollout_id) "
        "ORDER BY r.response_text"
    ).fetchall()


def test_lists_go_along_with_generations(store: Store, tmp_path: Path) -> None:
    """OpenR1's rows: parallel lists, of which some are null."""
    rows = [
        {
            "problem": "1+1=",
            "answer": "2",
            "generations": ["a", "b"],
            "finish_reasons": ["stop", "length"],
            "correctness_math_verify": [True, False],
            "uuid": "x",
        },
        {
            "problem": "1+2=",
            "answer": "3",
            "generations": ["c"],
            "finish_reasons": None,
            "correctness_math_verify": [True],
            "uuid": "y",
        },
    ]
    path = tmp_path / "openr1.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    fields = ("prompt=problem", "answer=answer", "text=generations", "finish_reason=finish_reasons")
    done = run(store, path, *fields, "reward.math_verify=correctness_math_verify", "id=uuid")
    assert (done.added["rollouts"], dict(done.groups)) == (3, {2: 1, 1: 1})
    assert stored(store) == [
        ("a", "stop", "2", 1.0),
        ("b", "length", "2", 0.0),
        ("c", None, "3", 1.0),
    ]


def test_two_models_answers_to_a_prompt_are_two_groups(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    rows = [{"p": "1+1=", "t": text, "m": model} for text, model in ("ax", "by", "cx")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run(store, path, "prompt=p", "text=t", "model=m", policy="")
    found = store.sql(
        "SELECT string_agg(response_text, '' ORDER BY response_text) FROM rollouts "
        "GROUP BY group_id ORDER BY 1"
    )
    assert found.fetchall() == [("ac",), ("b",)]


def test_several_columns_are_several_responses(store: Store, tmp_path: Path) -> None:
    row = {"question": "1+1=", "final_answer": "2", "r1_solution_1": "a", "r1_solution_2": None}
    path = tmp_path / "deepmath.jsonl"
    path.write_text(json.dumps(row) + "\n")
    fields = ("prompt=question", "answer=final_answer", "text=r1_solution_1,r1_solution_2")
    run(store, path, *fields)
    assert stored(store) == [("a", None, "2", None)]


def test_conversations_and_nested_fields(store: Store, tmp_path: Path) -> None:
    said = [{"from": "human", "value": "1+1="}, {"from": "gpt", "value": "2"}]
    row = {"system": "be brief", "conversations": said, "meta": {"score": [0.5]}}
    path = tmp_path / "thoughts.jsonl"
    path.write_text(json.dumps(row) + "\n")
    run(store, path, "messages=conversations", "system=system", "reward=meta.score.0")
    assert stored(store) == [("2", None, None, 0.5)]
    roles = "SELECT list_transform(messages, lambda m: m.role) FROM prompts"
    assert store.sql(roles).fetchall() == [(["system", "user"],)]


def test_token_ids_are_taken_as_they_are(store: Store, tmp_path: Path) -> None:
    row = {"p": [1, 2], "r": [3, 4], "m": [1, 0], "l": [-0.5, None]}
    path = tmp_path / "ids.jsonl"
    path.write_text(json.dumps(row) + "\n")
    fields = ("prompt_token_ids=p", "response_token_ids=r", "response_mask=m", "logprobs=l")
    run(store, path, *fields)
    found = store.sql("SELECT prompt_token_ids, response_mask, sampler_logprobs FROM rollouts")
    assert found.fetchall() == [([1, 2], [True, False], [-0.5, None])]


def test_lists_that_do_not_go_along_are_refused(store: Store, tmp_path: Path) -> None:
    rows = [
        {"problem": "1+1=", "generations": ["a", "b"], "reward": [1.0]},
        {"problem": "1+1=", "generations": ["a"], "reward": [1.0]},
        {"generations": ["a"], "reward": [1.0]},
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run(store, path, "prompt=problem", "text=generations", "reward=reward")
    assert (done.added["rollouts"], done.rejects) == (1, {"a record that does not fit": 2})
    listed = (tmp_path / "rejects.jsonl").read_text()
    assert "reward has 1 entries for 2 responses" in listed and "no field 'problem'" in listed


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": {"a": 1}},
        {"seed": 1 << 70},
        {"temperature": "warm"},
        {"ids": [1, 1 << 40]},
        {"ids": ["a"]},
        {"ids": 5},
        {"logprobs": [-0.5, "x"]},
        {"logprobs": [-0.5]},
        {"prompt": {"a": 1}},
    ],
)
def test_values_that_no_column_holds_are_refused(
    store: Store, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    right = {"prompt": "1+1=", "text": "2", "seed": 1, "temperature": 1, "ids": [3, 4]}
    right |= {"logprobs": [-0.5, -0.25]}
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (right, right | wrong)))
    fields = ("prompt=prompt", "text=text", "seed=seed", "temperature=temperature")
    done = run(store, path, *fields, "response_token_ids=ids", "logprobs=logprobs")
    assert (done.added["rollouts"], done.rejects.total()) == (1, 1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (("text",), "is not FIELD=PATH"),
        (("text=a", "text=b", "prompt=c"), "--map text is given twice"),
        (("text=a",), "no --map says where the prompt is"),
        (("promt=a",), "did you mean 'prompt'"),
    ],
)
def test_a_wrong_map_is_one_error(fields: tuple[str, ...], said: str) -> None:
    with pytest.raises(InputError) as error:
        parse(fields)
    assert said in str(error.value)
