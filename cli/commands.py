"""Every command of s2d: its name, where it is, and what it is for; imported when it is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
import typer.main

from cli.help import HelpCommand, HelpGroup


class Entry(NamedTuple):
    """A command of the first level.

    Attributes:
        target: `module:attribute` of its function, or of its Typer app where it has subcommands.
        panel: the heading that `s2d --help` lists it under.
        help: what it does, in one line.
    """

    target: str
    panel: str
    help: str


SAMPLE, ASK, TRAIN, KEEP = "Sample and grade", "Ask", "Datasets and training", "The store"
COMMANDS: Mapping[str, Entry] = {
    "init": Entry("cli.init:init", KEEP, "Create an empty store."),
    "prompts": Entry("cli.prompts:app", SAMPLE, "Prompts and their gold answers."),
    "policies": Entry("cli.policies:app", SAMPLE, "Policies: registered models, with parents."),
    "generate": Entry("cli.generate:generate", SAMPLE, "Sample rollouts and store them."),
    "import": Entry("cli.import_:import_", SAMPLE, "Bring in rollouts of other systems."),
    "capture": Entry("cli.capture:capture", SAMPLE, "Store what clients ask of a server."),
    "verify": Entry("cli.verify:verify", SAMPLE, "Grade stored rollouts."),
    "verifiers": Entry("cli.verifiers:app", SAMPLE, "Verifiers: versions, withdrawn verdicts."),
    "score": Entry("cli.score:score", SAMPLE, "Store a policy's top-k logprobs on rollouts."),
    "eval": Entry("cli.eval:evaluate", SAMPLE, "Compare policies on held-out prompts."),
    "run": Entry("cli.run:run", TRAIN, "Carry out a recipe, stage by stage."),
    "show": Entry("cli.show:show", ASK, "Read one rollout: text, tokens, verdicts."),
    "sample": Entry("cli.sample:sample", ASK, "Print some rollouts to read."),
    "runs": Entry("cli.runs:runs", ASK, "Show what ran, how long, and how it ended."),
    "watch": Entry("cli.runs:watch", ASK, "Look at a store as it fills."),
    "query": Entry("cli.query:query", ASK, "Run SQL, or a named query."),
    "dataset": Entry("cli.dataset:app", TRAIN, "Locked datasets, built by queries."),
    "audit": Entry("cli.audit:audit", ASK, "Ask whether the store's facts hold together."),
    "train": Entry("cli.train:app", TRAIN, "Trainers: consumers of locked datasets."),
    "budget": Entry("cli.budget:app", ASK, "Budgets: declared, spent, left."),
    "view": Entry("cli.view:view", ASK, "Read the store in the browser."),
    "report": Entry("cli.report:report", ASK, "Write one page that a reviewer needs."),
    "trace": Entry("cli.trace:trace", ASK, "Walk back from a policy to what it was made from."),
    "info": Entry("cli.info:info", KEEP, "Show the store's tables: rows, files, bytes."),
    "doctor": Entry("cli.doctor:doctor", KEEP, "Find damaged files, and how to repair them."),
    "compact": Entry("cli.compact:compact", KEEP, "Merge small files into large ones."),
    "vacuum": Entry("cli.vacuum:vacuum", KEEP, "Delete files that nothing refers to."),
    "publish": Entry("cli.publish:publish", KEEP, "Publish a dataset or a store."),
    "clone": Entry("cli.publish:clone", KEEP, "Make a store of what was published."),
    "migrate": Entry("cli.migrate:migrate", KEEP, "Bring an older store to this format."),
}


class Commands(Mapping[str, Any]):
    """Commands by name, each made when it is asked for."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        """Import nothing yet."""
        self._entries, self._made = entries, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        """The command, its module imported."""
        if name not in self._made:
            self._made[name] = load(name, self._entries[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        """Names, as declared."""
        return iter(self._entries)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._entries)


def load(name: str, entry: Entry) -> Any:
    """Import a command and make it one that explains itself as all of them do."""
    module, _, attribute = entry.target.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        group = typer.Typer(add_completion=False, rich_markup_mode=None)
        if not isinstance(found.info.cls, type) or not issubclass(found.info.cls, HelpGroup):
            found.info.cls = HelpGroup
        for info in found.registered_commands:
            info.cls = HelpCommand
        group.add_typer(found, name=name)
        return typer.main.get_command(group).commands[name]  # type: ignore[attr-defined]
    alone = typer.Typer(add_completion=False, rich_markup_mode=None)
    alone.command(name, cls=HelpCommand)(found)
    return typer.main.get_command(alone)


class Root(HelpGroup):
    """The `s2d` command: lists its commands without importing them."""

    def __init__(self, **attributes: Any) -> None:
        """Take the commands of COMMANDS."""
        super().__init__(**attributes)
        self.commands: Any = Commands(COMMANDS)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, as declared."""
        return list(self.commands)

    def command_lines(self, ctx: Any) -> Iterator[tuple[str, str, str]]:
        """Heading, name and help of each command."""
        for panel in (SAMPLE, TRAIN, ASK, KEEP):
            for name, entry in COMMANDS.items():
                if entry.panel == panel:
                    yield panel, name, entry.help
