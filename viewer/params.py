"""What a URL asks for: its path's and query's values, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from s2d_store.errors import InputError, did_you_mean


class Params:
    """Values by name, all text as a URL has them.

    Args:
        path: the page's path.
        values: by name.
        patient: whether who asks waits for all of it; else a part that takes long may be missing.
    """

    def __init__(self, path: str, values: Mapping[str, str], patient: bool = True) -> None:
        self.path, self._values, self.patient = path, values, patient

    def text(self, name: str, default: str = "") -> str:
        """A value as it stands."""
        return self._values.get(name, default)

    def choice(self, name: str, choices: Sequence[str], default: str = "") -> str:
        """One of a few words; empty text is the default.

        Raises:
            InputError: another word.
        """
        found = self._values.get(name, "") or default
        if found and found not in choices:
            raise InputError(
                f"{name}={found!r} is unknown{did_you_mean(found, choices)}",
                f"it may be {', '.join(choices) or 'nothing here'}",
                f"change {name} in the address",
            )
        return found

    def integer(self, name: str, default: int, most: int = 2**31 - 1) -> int:
        """A whole number from 0 on.

        Raises:
            InputError: it is none, or too large.
        """
        found = self._values.get(name, "")
        if not found:
            return default
        if not found.isascii() or not found.isdigit() or int(found) > most:
            raise InputError(
                f"{name}={found!r} is not a whole number from 0 to {most}",
                fix=f"change {name} in the address",
            )
        return int(found)

    def items(self) -> list[tuple[str, str]]:
        """What is given, by name."""
        return list(self._values.items())

    def url(self, **changes: object) -> str:
        """This page with some values changed; None and empty ones are left out."""
        values = {**self._values, **{name: value for name, value in changes.items()}}
        kept = {name: value for name, value in values.items() if value not in (None, "")}
        return f"{self.path}?{urlencode(kept)}" if kept else self.path
