"""Write the reference pages of docs/ from the code, or check that they are as the code says.

python docs/generate.py            writes docs/cli.md, tables.md, queries.md, recipes.md, api.md,
                                   importers.md and scale.md
python docs/generate.py --check    exits 1 when one of them is out of date
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import scale_page
import typer
import typer.main
from typer.core import TyperGroup

import queries
from cli.help import split_help
from cli.main import app
from cli.recipes import schema
from queries.kinds import shipped
from s2d_store.config_fields import field_help
from s2d_store.importers import formats
from s2d_store.schema import FORMAT_VERSION, TABLES
from viewer.claims import Claim

DOCS = Path(__file__).parent
RECIPES = """A recipe is a TOML file of stages that `s2d run` carries out through the store.

    s2d run recipe.toml --plan      # what would run, what it costs, what the run would refuse
    s2d run recipe.toml             # run it; killed anywhere, the same command continues
    s2d run recipe.toml --stage bridge --seed 1     # only that, and what it needs
    s2d run recipe.toml --set stage.bridge.train.lr=1e-5 --set name=slower

## A small one

```toml
name = "small"
store = "runs/small/store"
output = "runs/small/policies"

[prompts.math]
file = "data/math.jsonl"
split = { "1H" = 0.5, "2H" = 0.5 } # dealt out at random, by split_seed
[prompts.test]
file = "data/test.jsonl"

[policies]
teacher = "models/teacher"
student = "Qwen/Qwen3-1.7B"

[defaults.train]
lr = 1e-5

[stage.rl-teacher]
kind = "grpo"
start = "teacher"
role = "teacher"
prompts = "split = '1H'"
rounds = 10
prompts_per_round = 256
generate.n = 8

[stage.bridge]
kind = "opd"
start = "student"
teacher = "rl-teacher"
prompts = "split = '1H'"
rounds = 10
prompts_per_round = 256
generate.top_logprobs = 20

[stage.eval]
kind = "eval"
policies = ["teacher", "rl-teacher", "student", "bridge"]
sets = ["test"]
generate.n = 16
```

Ready recipes: examples/quickstart.toml, examples/miniature/expressions.toml and addition.toml (the
paper's routes on a CPU, docs/miniature.md), examples/gsm8k-smollm2.toml and
examples/paper-qwen3.toml.

## Stages and rounds

Stages run in the order of the file, dependencies first. `start`, `teacher`, `treatment`, `bridge`
and `policies` name policies or other stages; of a stage, the policy of its last round is meant. A
grpo or opd stage works in rounds: sample from the newest policy, grade or score, lock the round's
dataset, train. The optimizer continues from round to round. A round of GRPO in which no group has
rewards that differ takes no step; it is recorded, and the next round continues.

The learning rate follows the schedule that was planned: a round that takes fewer updates than
planned, because its query left rollouts out, spreads them over its part of the schedule.
`train.partial_update` says what happens to a last update with fewer rows: keep, drop, or scale.

A stage with `query = "mine.sql"` makes its datasets by that file: its header says of what kind they
are, and `trainer` who trains on them (docs/extending.md). `[defaults.generate]`, `[defaults.score]`
and `[defaults.train]` hold for every stage that takes such a table.

## Names, and a store that several recipes share

Round 3 of stage `bridge` of recipe `paper` is run, dataset and policy `paper.bridge.r003`. Warmup
and sft have one round and no number. Several recipes can use one store. A stage that another recipe
has finished, with the same name, settings, policies and prompts, is reused: `warmup: as
paper.warmup, with the same settings and inputs`. If two recipes give different policies the same
name, the second one is registered as `RECIPE.NAME`. A recipe samples only prompts of its own
sources and splits. A budget file counts a stage's name over all recipes of the store.

## Changing a recipe

Paths start at the folder of the file that contains them; those in `--set` start at the working
directory. `extends = "base.toml"` uses another recipe as a base, and `--overlay more.toml` and
`--set KEY=VALUE` change keys on top; tables are merged, values and lists are replaced. Values of
`--set` are TOML; a bare word is a text. What was changed is recorded with each round.

A round records the settings that it was done with. A finished round is not repeated, nor is an
evaluation that is stored whole: a finished recipe only prints its tables again. If the settings
have changed, the run is refused. Restore them, run a new experiment (`--set name=...`), or use
`--redo STAGE`: the stage, and every stage that depends on it, is done again as attempt
`paper.bridge.a1.r003`. What is stored stays.

## Sweeps, and teachers by students

```toml
[sweep]
stage.bridge.train.lr = [1e-5, 1e-6]

[matrix]
teacher = ["teacher-8b", "teacher-14b"] # a stage uses it as teacher = "{teacher}"
```

Each stage that uses a swept key or a variable, and each stage that depends on one, is copied for
every combination: `bridge.lr-1e-05`, `bridge.teacher-8b`. All others run once, and the copies share
them. An eval stage compares all copies in one table, unless its baseline or its own settings vary;
then there is one eval stage per combination. `--stage bridge` and `--redo bridge` mean all copies.

## Several GPUs, and servers

```toml
launcher = ["torchrun", "--nproc_per_node", "8"] # or ["accelerate", "launch", ...]

[engine]
name = "vllm"

[workers]
count = 4 # or "ray", "ray:16"
gpus = 2
```

`[workers]` holds for every stage that samples or scores, and for evaluation: each worker has an
engine on `gpus` GPUs of its own (docs/serving.md). Trainers run by `launcher`, in processes of
their own. Neither is part of a round's settings: a recipe that was begun on one GPU goes on with
eight.

With `name = "server"` and `url`, servers sample and score; with `score.engine = "server"` they only
score. A server keeps the weights that it was started with, so it can stand for one policy that the
recipe does not train: a teacher, or a policy to evaluate. A teacher whose weights nobody here has
stands under `[served]` with its tokenizer, so that rollouts go to it as ids:

```toml
[engine]
url = "http://gpu1:8000"

[served]
judge = "org/its-tokenizer"

[stage.bridge]
teacher = "judge"
score.engine = "server"
```

Training starts from weights, so `start` refuses it, and its FLOPs are not counted.

## Before it runs

`--plan` prints what every stage would do and cost, and then everything that the run would refuse,
each with its line in the file; it exits 1 if there is anything. It tells, among others: unknown
keys and wrong values, missing files, a teacher with another tokenizer, bf16 without a GPU, trackers
that are not installed, servers of which none answers, rounds with other settings, names that are
taken, prompts that are stored with another answer or split, and a budget that is too small. The
price is an upper bound: every response has `max_tokens`. `[rates]` gives GPU hours.

A control stage names its `treatment`, starts where that starts and takes over how it samples and
trains; another value is refused. `replay` is the paper's R7: GRPO on prompts whose labels its
line has spent. `fresh_opd` samples and scores anew on the treatment's prompts, without a label;
`bridge_continuation` and `continuation` go on with stored rollouts of the bridge's OPD and
warmup. `s2d audit replay_matched` proves each (docs/accounting.md).
"""
NOTE = "<!-- Generated by docs/generate.py: edit the code, then run `make format`. -->\n"


def cli_page() -> str:
    """Every command with its arguments and options, as `s2d COMMAND --help` gives them."""
    root = typer.main.get_command(app)
    parts = [NOTE, "# The command line\n", f"{root.help}\n"]
    for name, command in _commands(root, "s2d"):
        context = typer.Context(command, info_name=name)
        usage = " ".join(command.collect_usage_pieces(context))
        about, example = split_help(command.help, name.removeprefix("s2d "))
        shown = "\n".join(f"    {line}" for line in example.splitlines())
        parts.append(f"## `{name}`\n\n{about}\n\n    {name} {usage}\n\nExample:\n\n{shown}\n")
        records = [param.get_help_record(context) for param in command.get_params(context)]
        rows = [f"| `{_cell(flags)}` | {_cell(text)} |" for flags, text in filter(None, records)]
        parts.append("| option | meaning |\n| --- | --- |\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _commands(command: Any, name: str) -> list[tuple[str, Any]]:
    if not isinstance(command, TyperGroup):
        return [(name, command)]
    return [
        found
        for child, sub in command.commands.items()
        for found in _commands(sub, f"{name} {child}")
    ]


def tables_page() -> str:
    """Every table with its grain, key, partitions and columns."""
    parts = [NOTE, "# The tables\n", f"Format version {FORMAT_VERSION}.\n"]
    for table in TABLES.values():
        partitions = ", ".join(f"`{name}`" for name in table.partition_by) or "none"
        key = ", ".join(f"`{name}`" for name in table.key)
        parts.append(f"## `{table.name}`\n\n{table.doc}. Key: {key}. Partitions: {partitions}.\n")
        rows = [
            f"| `{c.name}` | `{c.type}` | {_cell(c.doc)}{'; may be null' if c.nullable else ''} |"
            for c in table.columns
        ]
        head = "| column | type | what it holds |\n| --- | --- | --- |\n"
        parts.append(head + "\n".join(rows) + "\n")
    return "\n".join(parts)


def queries_page() -> str:
    """Every named query with its parameters, then views and macros."""
    parts = [
        NOTE,
        "# The named queries\n",
        "Run one with `s2d query NAME --param name=value`. A parameter whose default is `NULL` "
        "filters nothing unless it is given; `--param name=` gives NULL too.\n",
    ]
    for query in queries.catalog().values():
        parts.append(f"## `{query.name}`\n\n{query.question} Grain: {query.grain}.\n")
        parts.append(f"Columns: {', '.join(f'`{name}`' for name in query.columns)}.\n")
        rows = [
            f"| `{p.name}` | {_cell(p.type)} "
            f"| {'required' if p.default is None else f'`{p.default}`'} | {_cell(p.doc)} |"
            for p in query.params
        ]
        head = "| parameter | type | default | meaning |\n| --- | --- | --- | --- |\n"
        parts += [head + "\n".join(rows) + "\n"] if rows else []
    parts.append("# Views\n\nEvery table is a view of its own name; these come on top.\n")
    for path in sorted((queries.ROOT / "views").glob("*.sql")):
        view = queries.parse(path.stem.lstrip("0123456789_"), "views", path.read_text())
        parts.append(f"- `{view.name}`: {view.question} {view.grain}: {', '.join(view.columns)}")
    parts.append("\n# Macros\n")
    for path in sorted((queries.ROOT / "macros").glob("*.sql")):
        lines = [line[3:] for line in path.read_text().splitlines() if line.startswith("-- ")]
        parts.append(f"- `{path.stem}`: {' '.join(lines)}")
    return "\n".join(parts) + "\n"


def recipes_page() -> str:
    """Every table and key of a recipe, from the schema."""
    parts = [NOTE, "# Recipes\n", RECIPES]
    for table in (
        schema.Recipe,
        schema.Prompts,
        schema.Engine,
        schema.Workers,
        schema.Rates,
        schema.Stage,
        schema.Generate,
        schema.Score,
        Claim,
    ):
        help_of, kinds = field_help(table), get_type_hints(table)
        parts.append(f"## {_cell(inspect.getdoc(table) or '')}\n")
        rows = [
            f"| `{f.name}` | {_kind(kinds[f.name])} | {_default(f)} | {_cell(help_of[f.name])} |"
            for f in fields(table)
            if not f.metadata.get("filled_in")
        ]
        head = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n"
        parts.append(head + "\n".join(rows) + "\n")
    parts.append("## Which stage takes what\n")
    rows = [
        f"| `{kind}` | {_names(schema.required_keys(traits))} "
        f"| {_names(schema.optional_keys(traits))} |"
        for kind, traits in shipped().items()
    ]
    rows.append(f"| `eval` | {_names(schema.EVAL_KEYS[0])} | {_names(schema.EVAL_KEYS[1])} |")
    parts.append("| kind | needs | may have |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


# What a program builds on, by module; their docstrings are the reference.
API = {
    "s2d_store.store": ("Store",),
    "s2d_store.datasets.open": ("open_dataset",),
    "s2d_store.datasets.read": ("LockedDataset", "UpdateRows", "DatasetLock"),
    "s2d_store.datasets.build": ("build", "drop"),
    "s2d_store.datasets.verify": ("verify",),
    "s2d_store.datasets.exports.run": ("export",),
    "s2d_store.publishing.publish": ("publish",),
    "s2d_store.publishing.clone": ("clone",),
    "trainers.torch_dataset": ("LockedRows",),
    "s2d_store.prompts": ("PromptOptions", "add"),
    "s2d_store.policies.registry": ("register", "find"),
    "s2d_store.rollouts.generate_config": ("GenerateConfig",),
    "s2d_store.rollouts.generate": ("generate",),
    "s2d_store.rollouts.score": ("ScoreConfig", "score"),
    "s2d_store.rollouts.grade": ("VerifyConfig", "verify"),
    "s2d_store.evaluation.evaluate": ("EvalConfig", "evaluate"),
    "s2d_store.accounting.budget_file": ("Budget",),
    "s2d_store.audits": ("audit",),
    "s2d_store.engines.base": ("Engine", "Sample", "SampleRequest", "ScoreRequest"),
    "s2d_store.encoding.topk": ("TopK",),
    "s2d_store.verifiers.base": ("Verifier", "Verdict"),
    "s2d_store.errors": ("S2DError",),
}
API_HEAD = """From Python, as from the command line: open a store, append facts, query, build,
read. Losses and trainers are documented in their own files
([trainers/README.md](../trainers/README.md)).
"""


def api_page() -> str:
    """The public classes and functions, from their docstrings."""
    parts = [NOTE, "# The Python API\n", API_HEAD]
    for module, names in API.items():
        for name in names:
            thing = getattr(import_module(module), name)
            parts.append(f"## `{module}.{name}`\n\n{_documented(name, thing)}")
            if inspect.isclass(thing):
                parts += [
                    f"### `{name}.{method}`\n\n{_documented(method, member)}"
                    for method, member in vars(thing).items()
                    if not method.startswith("_") and _is_method(member)
                ]
    return "\n".join(parts)


def importers_page() -> str:
    """Every format of `s2d import`: what is kept, and what is not."""
    parts = [NOTE, "# Formats of s2d import\n", "[import.md](import.md) says how they are read.\n"]
    for module in sorted(iter_modules(formats.__path__), key=lambda found: found.name):
        importer = import_module(f"{formats.__name__}.{module.name}").IMPORTER
        parts.append(f"## `{importer.name}`\n\n{importer.about} ({importer.version})\n")
        rows = [f"| {name} | {_cell(where)} |" for name, where in importer.columns.items()]
        parts.append("| stored as | from |\n| --- | --- |\n" + "\n".join(rows) + "\n")
        parts.append("Not in a column:\n\n" + "\n".join(f"- {t}" for t in importer.left_out) + "\n")
    return "\n".join(parts)


def _is_method(member: Any) -> bool:
    inner = getattr(member, "__func__", member)
    return inspect.isfunction(inner) and bool(inspect.getdoc(inner))


def _documented(name: str, thing: Any) -> str:
    """A signature and the docstring as it stands in the code."""
    thing = getattr(thing, "__func__", thing)
    shown = ", ".join(_parameters(inspect.signature(thing)))
    text = inspect.getdoc(thing) or ""
    if text.startswith(f"{name}("):  # made by dataclass: the class has no text of its own
        text = ""
    return f"    {name}({shown})\n\n```text\n{text}\n```\n"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    """Parameters as a caller writes them; what is callable by its name."""
    starred = False
    for parameter in signature.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        default = parameter.default
        if default is parameter.empty:
            yield parameter.name
        elif callable(default):
            yield f"{parameter.name}={default.__name__}"
        else:
            yield (
                f"{parameter.name}=..."
                if "factory" in repr(default)
                else (f"{parameter.name}={default!r}")
            )


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _kind(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(f"`{choice}`" for choice in get_args(kind) if choice)
    if get_origin(kind) is tuple:
        return f"list of {_kind(get_args(kind)[0])}s"
    if isinstance(kind, UnionType):
        return " or ".join(map(_kind, get_args(kind)))
    words = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return words.get(kind, "table")


def _default(field: Field[Any]) -> str:
    if field.default is MISSING:
        return "required" if field.default_factory is MISSING else "empty"
    empty = field.default == "" or field.default == ()
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return "empty" if empty else f"`{str(value).lower()}`"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main() -> None:
    """Write the pages, or with --check compare them."""
    pages = {
        "cli.md": cli_page(),
        "tables.md": tables_page(),
        "queries.md": queries_page(),
        "recipes.md": recipes_page(),
        "api.md": api_page(),
        "importers.md": importers_page(),
        "scale.md": scale_page.page(),
    }
    for name, text in pages.items():
        path = DOCS / name
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"docs/{name} is out of date\n  fix: make format")


if __name__ == "__main__":
    main()
