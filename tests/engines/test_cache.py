"""Engines kept between rounds, and whose turn it is in a round."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from s2d_store.engines import cache
from s2d_store.engines.base import SamplingParams
from s2d_store.engines.cache import EngineCache, open_once
from s2d_store.engines.registry import open_engine
from s2d_store.rollouts.generate import generate
from s2d_store.rollouts.generate_config import GenerateConfig
from s2d_store.rollouts.score import ScoreConfig, score
from s2d_store.rollouts.selection import Prompt, prompts_of_round
from s2d_store.verifiers.base import Item
from s2d_store.verifiers.cache import PoolCache
from tests.support import made_stores
from tests.support.tiny_models import save_tiny_model


class Opened:
    """Counts what is opened and closed around real engines, which may take over weights."""

    def __init__(self, reloads: bool = False) -> None:
        self.reloads = reloads
        self.log: list[str] = []

    def __call__(self, name: str, location: str, **settings: Any) -> Any:
        engine: Any = open_engine(name, location, **settings)
        close = engine.close
        self.log.append(f"open {Path(location).name}")

        def closing() -> None:
            self.log.append("close")
            close()

        def reload(location: str) -> bool:
            self.log.append(f"reload {Path(location).name}")
            return self.reloads

        engine.close, engine.reload = closing, reload
        return engine


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    opened = Opened()
    monkeypatch.setattr(cache, "open_engine", opened)
    return opened


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("a", "b")):
        save_tiny_model(folder / name, seed=seed)
    return folder


def use(engines: EngineCache, location: Path, **settings: Any) -> None:
    with engines("transformers", str(location), **settings):
        pass


def test_same_policy_is_opened_once(opened: Opened, models: Path) -> None:
    engines = EngineCache(2)
    use(engines, models / "a")
    use(engines, models / "a")
    use(engines, models / "a", batch_size=4)
    engines.close()
    assert opened.log == ["open a", "open a", "close", "close"]


@pytest.mark.parametrize("reloads", [True, False])
def test_newer_weights_are_taken_over_where_the_engine_can(
    opened: Opened, models: Path, reloads: bool
) -> None:
    opened.reloads = reloads
    engines = EngineCache(2)
    use(engines, models / "a")
    use(engines, models / "b")
    engines.close()
    again = [] if reloads else ["close", "open b"]
    assert opened.log == ["open a", "reload b", *again, "close"]


def test_another_tokenizer_is_another_engine(opened: Opened, models: Path, tmp_path: Path) -> None:
    opened.reloads = True
    save_tiny_model(tmp_path / "swapped", vocab="swapped")
    engines = EngineCache(1)
    use(engines, models / "a")
    use(engines, tmp_path / "swapped")
    assert opened.log == ["open a", "close", "open swapped"]
    engines.close()


def test_nothing_is_kept_after_an_error_or_when_told_so(opened: Opened, models: Path) -> None:
    engines = EngineCache(2)
    with pytest.raises(KeyboardInterrupt), engines("transformers", str(models / "a")):
        raise KeyboardInterrupt
    assert opened.log == ["open a", "close"]
    use(EngineCache(0), models / "a")
    assert opened.log[2:] == ["open a", "close"]


def test_kept_engines_give_the_same_rollouts_and_scores(
    opened: Opened, models: Path, questions: Path, tmp_path: Path
) -> None:
    engines = EngineCache(2)
    facts: list[list[tuple[Any, ...]]] = []
    for kept in (engines, open_once):
        place = tmp_path / str(len(facts))
        store = made_stores.make(place, made_stores.read(questions), models / "a")
        for round_, name in enumerate(("a", "b")):
            config = GenerateConfig(
                str(models / name),
                "student",
                round=round_,
                top_logprobs=3,
                params=SamplingParams(max_tokens=6),
                prompts_per_round=2,
            )
            generate(store, config, engines=kept)
        for scorer in ("a", "b"):
            asked = ScoreConfig(str(models / scorer), support="policy")
            score(store, asked, engines=kept)
        facts.append(
            store.sql(
                "SELECT rollout_id, response_token_ids, t.logprobs FROM rollouts "
                "JOIN topk AS t USING (rollout_id) ORDER BY ALL"
            ).fetchall()
        )
    engines.close()
    assert len(facts[0]) == 2 * 2 * 3 and facts[0] == facts[1]
    assert opened.log.count("close") == sum(entry.startswith("open") for entry in opened.log)


def test_a_verifier_pool_is_kept_for_the_same_settings_until_an_error() -> None:
    with closing(PoolCache()) as pools:
        with pools("math-verify", 1, 5.0) as first:
            pids = first.pids()
        with pools("math-verify", 1, 5.0) as again:
            assert again is first and again.pids() == pids
            assert [v.reward for _, v, _ in again.grade_many([Item("a", "4", "4")])] == [1.0]
        with pools("math-verify", 1, 4.0) as other:
            assert other is not first and first.pids() == []
        with pytest.raises(KeyError), pools("math-verify", 1, 4.0):
            raise KeyError
        assert other.pids() == []


def test_every_prompt_has_its_turn_before_any_has_another() -> None:
    prompts = [Prompt(f"{i:02}", [], None) for i in range(10)]

    def ids(round_: int, size: int = 3, seed: int = 0) -> list[str]:
        return [prompt.prompt_id for prompt in prompts_of_round(prompts, size, round_, seed)]

    first = [ids(r) for r in range(3)]
    assert all(len(drawn) == 3 and drawn == sorted(drawn) for drawn in first)
    assert len({prompt for drawn in first for prompt in drawn}) == 9
    # Another pass and another seed: other orders.
    assert [ids(r) for r in range(3, 6)] != first != [ids(r, seed=1) for r in range(3)]
    assert ids(5) == ids(5) and ids(0, size=20) == [p.prompt_id for p in prompts]


def test_a_moved_policy_is_found_again(opened: Opened, models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "a", tmp_path / "copy")
    opened.reloads = True
    engines = EngineCache(1)
    use(engines, models / "a")
    use(engines, tmp_path / "copy")
    engines.close()
    assert opened.log == ["open a", "reload copy", "close"]
