"""DuckDB over a snapshot: connections, parameters, what may be run."""
