"""The s2d command line: one Typer file a noun."""
