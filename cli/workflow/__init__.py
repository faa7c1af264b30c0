"""`s2d run`: a recipe of stages, carried out through the store and taken up where it stopped."""
