"""Locked datasets as other trainers take them: one file per format.

`base.py` says what a format is and `registry.py` which there are; `run.py` writes one, whole or not
at all, with its sidecar (`sidecar.py`). `rows.py` streams a dataset's rows, `texts.py` their
messages, `prompts.py` its distinct prompts; `sequences.py` lays tokens end to end.
"""
