"""Pages of a diagnosis: what `diff` and `doctor` found, in one file that works offline."""
