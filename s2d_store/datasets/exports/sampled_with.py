"""How a dataset's rollouts were sampled, as far as it decides their tokens: template, tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import queries
from s2d_store.datasets.read import LockedDataset
from s2d_store.errors import DatasetError
from s2d_store.sql import connection
from s2d_store.store import Store


@dataclass(frozen=True)
class SampledWith:
    """Runs that sampled a dataset's rollouts, and with which chat template.

    Attributes:
        dataset: the dataset's name.
        runs: records of query export_runs, `config` read; one per run and policy.
    """

    dataset: str
    runs: list[dict[str, Any]]

    @classmethod
    def of(cls, store: Store, dataset: LockedDataset) -> SampledWith:
        """Ask the store."""
        text = queries.internal("export_runs")
        with connection.errors():
            found = store.connect(text=text).sql(
                text, params={"dataset_id": dataset.lock.raw["dataset_id"]}
            )
            rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        for row in rows:
            row["config"] = json.loads(row["config"] or "{}")
        return cls(dataset.lock.name, rows)

    @property
    def any_tools(self) -> bool:
        """Whether a prompt has tool definitions."""
        return any(row["tools"] for row in self.runs)

    @property
    def any_kwargs(self) -> bool:
        """Whether a run set variables of the template."""
        return any(self.kwargs(row["run_id"]) for row in self.runs)

    @property
    def policy_ids(self) -> list[str]:
        """Ids of the policies that sampled the rollouts."""
        return sorted({row["policy_id"] for row in self.runs})

    def plain(self, run_id: str) -> bool:
        """Whether a run used no chat template."""
        return bool(self._config(run_id).get("no_chat_template"))

    def kwargs(self, run_id: str) -> Mapping[str, Any]:
        """Variables of the template that a run set."""
        return dict(self._config(run_id).get("chat_template_kwargs") or {})

    def check_one_form(self) -> None:
        """Refuse rollouts of which some were sampled with a chat template and some without.

        Raises:
            DatasetError: a text form has one of both in a file.
        """
        plain = {self.plain(row["run_id"]) for row in self.runs}
        if len(plain) > 1:
            raise DatasetError(
                f"dataset {self.dataset} mixes rollouts sampled with a chat template and without",
                "one file holds messages or plain text, not both",
                "export as tokens, which needs neither",
            )

    @property
    def own_template(self) -> str:
        """Text of the chat template given in place of the policy's own; empty for none.

        Raises:
            DatasetError: runs were given different ones.
        """
        texts = {self._config(row["run_id"]).get("chat_template") or "" for row in self.runs}
        if len(texts) > 1:
            raise DatasetError(
                f"dataset {self.dataset} mixes rollouts of {len(texts)} chat templates",
                "a trainer renders all messages of a file with one template",
                "export as tokens, which needs none",
            )
        return texts.pop() if texts else ""

    def templates(self) -> list[dict[str, Any]]:
        """What the sidecar says of the templates: one record per run and policy."""
        return [
            {
                "run_id": row["run_id"],
                "rows": row["rows"],
                # A run that recorded none, as an import: unknown.
                "template_hash": row["config"].get("template_hash"),
                "no_chat_template": row["config"].get("no_chat_template", False),
                "chat_template_kwargs": dict(row["config"].get("chat_template_kwargs") or {}),
            }
            for row in self.runs
        ]

    def _config(self, run_id: str) -> Mapping[str, Any]:
        return next((row["config"] for row in self.runs if row["run_id"] == run_id), {})
