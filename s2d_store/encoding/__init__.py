"""How the tables' widest columns lie in files: encoders, and their inverses."""
