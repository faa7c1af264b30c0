"""Other systems' rollouts in: one reader per format, one place that maps, checks and commits."""
