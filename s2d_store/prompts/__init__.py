"""Prompts in: JSONL, Parquet, CSV or a hub data set, checked whole before anything is stored."""

from s2d_store.prompts.add_prompts import Added, add, check
from s2d_store.prompts.records import read_records
from s2d_store.prompts.rows import PromptOptions, to_row

__all__ = ["Added", "PromptOptions", "add", "check", "read_records", "to_row"]
