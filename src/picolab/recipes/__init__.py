"""Whole experiments, ready to run."""
