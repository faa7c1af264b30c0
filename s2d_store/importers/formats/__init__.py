"""One file per format: from a file of another system to neutral records."""
