"""The s2d command line: one Typer file per noun."""
