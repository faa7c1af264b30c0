"""A dataset or store as a folder or Hub repository of plain Parquet, and a store made of one.

`selection.py` says which rows go along, `epochs.py` streams them by the versions that locks pin,
`masks.py` takes out paths and secrets, `card.py` writes README.md; `publish.py` and `clone.py` do
the two commands, `hub.py` goes to the Hugging Face Hub.
"""
