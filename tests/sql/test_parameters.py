"""Parameters of named queries: null, choices, whole words, and names that are also words."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

import queries
from s2d_store.errors import InputError, NotFoundError
from s2d_store.sql import parameters
from s2d_store.store import Store
from tests.support.dataset_rows import Made, add_policies, add_prompts, add_rollouts, built
from tests.support.synthetic import policy

HEADER = "-- question: q\n-- grain: g\n-- params:\n{params}\n-- columns: a\n"


def query(*params: str, sql: str = "SELECT 1 AS a") -> queries.Query:
    lines = "\n".join(f"--   {line}" for line in params)
    return queries.parse("mine", "user", HEADER.format(params=lines) + sql)


@pytest.fixture
def con(store: Store) -> duckdb.DuckDBPyConnection:
    add_policies(store, policy("teacher"), policy("NULL"), policy("any"))
    return store.connect()


@pytest.mark.parametrize(
    ("param", "given", "value"),
    [
        ("runs: VARCHAR = NULL -- d", {}, None),
        ("runs: VARCHAR = NULL -- d", {"runs": ""}, None),
        ("runs: VARCHAR = NULL -- d", {"runs": "NULL"}, "NULL"),
        ("runs: VARCHAR = a -- d", {"runs": ""}, ""),
        ("k: COUNT = NULL -- d", {"k": "3"}, 3),
        ("round: BIGINT = NULL -- d", {"round": "-1"}, -1),
        ("rate: DOUBLE = NULL -- d", {"rate": "0"}, 0.0),
        ("any: BOOLEAN = NULL -- d", {}, None),
        ("purpose: train|eval = NULL -- d", {}, None),
        ("purpose: train|eval|NULL = train -- d", {}, "train"),
        ("purpose: train|eval|NULL = train -- d", {"purpose": ""}, None),
    ],
)
def test_null_is_what_is_left_out(
    con: duckdb.DuckDBPyConnection, param: str, given: dict[str, str], value: Any
) -> None:
    (found,) = parameters.resolve(query(param), given, con).values()
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("name", ["teacher", "NULL", "any"])
def test_a_policy_may_have_any_name(con: duckdb.DuckDBPyConnection, name: str) -> None:
    for param in ("p: POLICY -- d", "p: POLICY = NULL -- d"):
        assert parameters.resolve(query(param), {"p": name}, con) == {
            "p": policy(name)["policy_id"]
        }


@pytest.mark.parametrize(
    ("param", "text", "message"),
    [
        ("purpose: train|eval = NULL -- d", "trian", "one of train, eval; did you mean 'train'"),
        ("purpose: train|eval|NULL = train -- d", "NULL", "one of train, eval"),
        ("purpose: train|eval|NULL = train -- d", "any", "one of train, eval"),
        ("k: COUNT = NULL -- d", "0", "whole number of at least 1"),
        ("k: COUNT = 1 -- d", "", "whole number of at least 1"),
        ("rate: DOUBLE = 1 -- d", "", "not a DOUBLE"),
    ],
)
def test_wrong_values_are_refused(
    con: duckdb.DuckDBPyConnection, param: str, text: str, message: str
) -> None:
    asked = query(param)
    with pytest.raises(InputError, match=message):
        parameters.resolve(asked, {asked.params[0].name: text}, con)


def test_a_misspelt_purpose_is_an_error_not_zeros(con: duckdb.DuckDBPyConnection) -> None:
    typed = [q for q in queries.catalog().values() if any(p.name == "purpose" for p in q.params)]
    assert len(typed) >= 8
    for shipped in typed:
        needed = {p.name: "teacher" for p in shipped.params if p.default is None}
        with pytest.raises(InputError, match="did you mean 'train'"):
            parameters.resolve(shipped, needed | {"purpose": "trian"}, con)


def test_parameters_are_whole_words(con: duckdb.DuckDBPyConnection) -> None:
    asked = query("k: COUNT = 1 -- unused", "keep: COUNT = 2 -- rows", sql="SELECT $keep AS a")
    bound = parameters.bind(asked, parameters.resolve(asked, {}, con))
    assert bound == {"keep": 2}
    assert con.execute(asked.sql, bound).fetchall() == [(2,)]


def test_defaults_of_shipped_choices_are_choices() -> None:
    with pytest.raises(ValueError, match="default 'any' of parameter purpose is not one of"):
        query("purpose: train|eval = any -- d")


def test_no_shipped_default_is_a_word_for_no_filter() -> None:
    """A policy, dataset or run may have any of these names."""
    for shipped in queries.catalog().values():
        for param in shipped.params:
            words = ("any", "all", "lock", "parent", "-1", "teacher", "policy")
            assert param.choices or param.default not in words, (shipped.name, param.name)
            if param.type == "POLICY":
                assert param.default in (None, queries.NULL), (shipped.name, param.name)


def test_a_policy_named_teacher_is_not_the_word(store: Store) -> None:
    """The quickstart's base model is named `teacher`: its pass rates are not rl-teacher's."""
    add_prompts(store, 2)
    add_policies(store, policy("teacher"), policy("rl-teacher"))
    for name, reward in (("teacher", 0.0), ("rl-teacher", 1.0)):
        made = [Made(p, s, reward=reward) for p in range(2) for s in range(2)]
        add_rollouts(store, name, name, made, role="teacher", scorer="rl-teacher")
    given = {"teacher": "rl-teacher", "max_pass_rate": 0.5}
    by_base = built(store, "by-base", "warmup", pass_rate_of="teacher", **given)
    assert by_base.num_rows == 4 and set(by_base.column("pass_rate").to_pylist()) == {0.0}
    with pytest.raises(Exception, match="selects no rows"):
        built(store, "by-itself", "warmup", **given)
    with pytest.raises(NotFoundError, match="no policy 'policy'"):
        built(store, "word", "warmup", pass_rate_of="policy", **given)
