"""Recipes: whole experiments in one TOML file, planned and carried out stage by stage."""
