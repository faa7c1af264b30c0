"""Compaction, vacuum, and finding and repairing damage."""
