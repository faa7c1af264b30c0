"""A recipe's text: lines of keys, base files, overlays, --set, paths, and every mistake at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.recipes.document import read_document
from cli.recipes.parse import read_recipe
from s2d_store.errors import InputError
from s2d_store.mistakes import SeveralMistakes
from s2d_store.toml_lines import key_lines
from tests.conftest import Cli
from tests.support.tiny_recipe import Write


def test_every_key_has_its_line() -> None:
    text = (
        "# a comment with = in it\n"
        'name = "x" # behind a value\n'
        "[a]\n"
        'text = """\n[not.a.table]\nkey = 1\n"""\n'
        "list = [\n  1,\n  2, # inside\n]\n"
        'inline = { b = 1, c = { d = "]" } }\n'
        "\n"
        '[a."quoted.key"]\n'
        "x.y = 1979-05-27\n"
        "[later]\n"
    )
    assert key_lines(text) == {
        "name": 2,
        "a": 3,
        "a.text": 4,
        "a.list": 8,
        "a.inline": 12,
        "a.inline.b": 12,
        "a.inline.c": 12,
        "a.inline.c.d": 12,
        "a.quoted.key": 14,
        "a.quoted.key.x": 15,
        "a.quoted.key.x.y": 15,
        "later": 16,
    }


def test_settings_overlays_and_bases_are_laid_over_each_other(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.toml").write_text(
        'store = "store"\n[stage.a]\nrounds = 1\nprompts = "x"\n[stage.a.train]\nlr = 1.0\n'
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'extends = "base/base.toml"\noutput = "out"\n'
        "[stage.a]\nrounds = 2\n[stage.a.train]\nx = 1\n"
    )
    overlay = tmp_path / "more.toml"
    overlay.write_text("[stage.a]\nrounds = 3\n")
    settings = ("stage.a.train.lr=1e-5", "stage.a.train.betas=[0.9, 0.99]", "name=bare-word")
    found = read_document(recipe, [overlay], settings)
    assert found.values == {
        "name": "bare-word",
        # Each path starts at the folder of the file that says it.
        "store": str(tmp_path / "base" / "store"),
        "output": str(tmp_path / "out"),
        "stage": {
            "a": {
                "rounds": 3,
                "prompts": "x",
                "train": {"lr": 1e-5, "x": 1, "betas": [0.9, 0.99]},
            }
        },
    }
    assert found.places["stage.a.rounds"] == f"{overlay}:2"
    assert found.places["stage.a.prompts"] == f"{tmp_path}/base/base.toml:4"
    assert found.places["stage.a.train.x"] == f"{recipe}:6"
    assert found.places["stage.a.train.lr"] == "--set stage.a.train.lr"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("stage.a.rounds", "--set stage.a.rounds is no setting"),
        ("stage.a.rounds=[1", "--set stage.a.rounds=[1 is no setting"),
        ("stage.a rounds=1", "is no setting"),
        ("stage.aa.rounds=1", "--set stage.aa.rounds: the recipe has no stage 'aa'; did you mean"),
    ],
)
def test_settings_that_are_none_are_refused(tmp_path: Path, setting: str, says: str) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[stage.a]\nrounds = 1\n")
    with pytest.raises(InputError) as refused:
        read_document(recipe, [], [setting])
    assert says in str(refused.value)


def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (tmp_path / f"{name}.toml").write_text(f'extends = "{other}.toml"\n')
    with pytest.raises(InputError, match=r"extends itself\n.*a.toml -> .*b.toml -> .*a.toml"):
        read_document(tmp_path / "a.toml", [], [])


def test_folders_and_hub_ids_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "models" / "here").mkdir(parents=True)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[policies]\nhub = "Qwen/Qwen3-8B"\nthere = "models/here"\nmissing = "models/gone"\n'
        'seeded = "models/s-{seed}/student"\nup = "../elsewhere"\n[prompts.a]\nfile = "hf:x/y:z"\n'
    )
    assert read_document(recipe, [], []).values == {
        "policies": {
            "hub": "Qwen/Qwen3-8B",
            "there": str(tmp_path / "models" / "here"),
            "missing": str(tmp_path / "models" / "gone"),
            "seeded": str(tmp_path / "models" / "s-{seed}" / "student"),
            "up": str(tmp_path.parent / "elsewhere"),
        },
        "prompts": {"a": {"file": "hf:x/y:z"}},
    }


def test_all_mistakes_are_told_at_once_with_their_lines(cli: Cli, recipe: Write) -> None:
    file = recipe(
        "a",
        ("verify_workers = 1", "verify_worker = 1"),
        ("sums.jsonl", "gone.jsonl"),
        ("n = 2", 'n = "2"'),
        ("lr = 1e-3", 'lr = 1e-3\ntracker = ["wandb"]'),
        ("rounds = 3", "rounds = 0"),
        ('baseline = "student"', 'baseline = "pupil"'),
    )
    refused = cli("run", file, "--plan", "--set", "stage.stage3.generate.temprature=1")
    assert refused.code == 1 and not refused.out
    first, *lines = [line for line in refused.err.splitlines() if not line.startswith("     ")]
    assert first == f"error: recipe {file} has {len(lines)} mistakes"
    said = [line.split(". ", 1)[1].replace(str(file), "FILE") for line in lines]
    told = "\n".join(said)
    for part in (
        "FILE:6: unknown key 'verify_worker'; did you mean 'verify_workers'?",
        "FILE:9: prompts.train.file is ",
        "FILE:22: defaults.generate.n is '2'",
        "FILE:26: [defaults.train]: train.tracker is no setting of s2d train warmup; "
        "did you mean 'trackers'?",
        "[stage.bridge]: rounds is 0",
        "[stage.eval]: baseline 'pupil' is not one of its policies",
        "--set stage.stage3.generate.temprature: unknown key",
    ):
        assert part in told, told
    assert told.count("train.tracker is no setting") == 1  # though several stages take it over
    with pytest.raises(SeveralMistakes):
        read_recipe(file)
