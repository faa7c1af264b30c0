"""Formats of `s2d dataset export` by name.

Other packages register an `Exporter` under the entry-point group `s2d.exporters`;
docs/extending.md shows how a row of a registry is registered.
"""

from __future__ import annotations

from importlib import import_module

from s2d_store import plugins
from s2d_store.datasets.exports.base import Exporter
from s2d_store.errors import NotFoundError, did_you_mean

GROUP = "s2d.exporters"
_HERE = "s2d_store.datasets.exports"
BUILT_IN = {
    name: f"{_HERE}.{module}:EXPORTER"
    for name, module in {
        "parquet": "plain",
        "tokens": "tokens",
        "trl-sft": "trl_sft",
        "trl-grpo": "trl_grpo",
        "trl-dpo": "trl_dpo",
        "trl-kto": "trl_kto",
        "verl-sft": "verl_sft",
        "verl-rl": "verl_rl",
        "skyrl": "skyrl",
        "open-instruct": "open_instruct",
        "distillkit": "distillkit",
        "axolotl-kd": "axolotl_kd",
        "hf": "hf",
    }.items()
}


def names() -> list[str]:
    """Every format that is installed, built-in ones first; imports none of them."""
    return list(dict.fromkeys((*BUILT_IN, *sorted(plugins.registered(GROUP)))))


def find(name: str) -> Exporter:
    """A format by name; a plug-in cannot take the name of a built-in one.

    Raises:
        NotFoundError: there is none of that name, or its package cannot be imported.
        InputError: what is registered is no `Exporter` of that name.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        exporter: Exporter = getattr(import_module(module), attribute)
        return exporter
    if name in plugins.registered(GROUP):
        return plugins.load_row(GROUP, name, Exporter)
    raise NotFoundError(
        f"export format {name!r} is unknown{did_you_mean(name, names())}",
        f"formats: {', '.join(names())}; others come from the entry-point group {GROUP!r}",
        "--format tokens",
    )
