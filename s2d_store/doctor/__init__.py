"""`s2d doctor`: which files of a store are damaged, what is lost with them, how it comes back."""
