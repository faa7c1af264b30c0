"""Verifiers by name: built-in ones, those that packages register, own ones, and sums of them."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from s2d_store.errors import InputError, NotFoundError
from s2d_store.verifiers import combined, settings
from s2d_store.verifiers.forms import Loaded, adapt

GROUP = "s2d.verifiers"
BUILT_IN = {
    "math-verify": "s2d_store.verifiers.math:MathVerifier",
    "exact-match": "s2d_store.verifiers.text:ExactMatch",
    "normalised-match": "s2d_store.verifiers.text:NormalisedMatch",
    "choice": "s2d_store.verifiers.choice:Choice",
    "json-schema": "s2d_store.verifiers.json_schema:JsonSchema",
    "code-tests": "s2d_store.verifiers.code:CodeTests",
    "judge": "s2d_store.verifiers.judge:Judge",
    "ifeval": "s2d_store.verifiers.ifeval:InstructionFollowing",
}


def available() -> dict[str, str]:
    """Names that can be given as a verifier, each with the `module:Class` it stands for.

    Built-in names are there without package metadata too, as in a source tree on the path.
    """
    registered = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    return {**registered, **BUILT_IN}


def resolve(name: str) -> str:
    """The `module:Class` of a verifier, its settings behind it; a text with a colon is taken as one
    already, and so is a sum of verifiers, once each of them is known.

    Imports nothing, so that a process which only starts workers stays light.

    Raises:
        InputError: the text has a colon and is not of the form `module:Class`, or a sum has none.
        NotFoundError: no verifier is registered under the name.
    """
    if combined.is_sum(name):
        for term in combined.parse(name).terms:
            resolve(term.verifier)
        return name
    name, given = settings.split(name)
    if ":" in name:
        module, _, attribute = name.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            raise InputError(
                f"{name!r} does not name a verifier class or function",
                why="with a colon the form is module:Class or module:function",
                fix="write for example my_package.verifiers:MyVerifier",
            )
        return settings.join(name, given)
    names = available()
    if name not in names:
        raise NotFoundError(
            f"no verifier is named {name!r}; available: {', '.join(sorted(names))}",
            why=f"names come from the entry-point group {GROUP!r} of installed packages",
            fix=f'register it in its pyproject.toml: [project.entry-points."{GROUP}"] '
            f'{name} = "module:Class", reinstall the package; or pass module:Class itself',
        )
    return settings.join(names[name], given)


def load_verifier(name: str) -> Loaded:
    """Import and create a verifier in this process; `VerifierPool` does it in its workers.

    Args:
        name: a registered name, `module:Class`, `module:function`, or a sum of those such as
            `reward = 0.9 * math-verify + 0.1 * my_rewards:tidy`. A class may have settings behind
            its name, as in `math-verify(answer_from=box)`.

    Raises:
        NotFoundError: the name, the module or the class does not exist.
        InputError: what was found has none of the forms of a verifier, or its name cannot be a
            folder's.
        Exception: whatever the class raises when it is created without arguments.
    """
    if combined.is_sum(name):
        return combined.combine(combined.parse(name), load_verifier)
    spec, given = settings.split(resolve(name))
    module_name, _, attribute = spec.partition(":")
    try:
        found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise NotFoundError(
            f"verifier {name!r}: cannot import {spec}",
            why=f"{type(error).__name__}: {error}",
            fix="install the package that holds it, or put its folder on PYTHONPATH",
        ) from error
    return adapt(found, spec, given)


def verifier_name(asked: str) -> str:
    """The name under which a verifier's rewards are stored.

    Raises:
        NotFoundError, InputError: see `load_verifier`.
    """
    return asked if asked in BUILT_IN else load_verifier(asked).name


def needs_answer(asked: str) -> bool:
    """Whether a verifier grades nothing without a gold answer.

    Raises:
        NotFoundError, InputError: see `load_verifier`.
    """
    # Known, and its libraries take a second to import.
    return asked == "math-verify" or load_verifier(asked).needs.answer
