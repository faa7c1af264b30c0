"""What was spent: budgets, charges before a stage starts, lineage."""
