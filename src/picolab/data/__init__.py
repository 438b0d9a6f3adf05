"""Corpora to batches: what text is learned, how it is split and stored, and which rows a step reads."""
