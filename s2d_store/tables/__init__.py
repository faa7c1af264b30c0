"""Delta tables: Parquet files, the log, atomic commits, snapshots."""
