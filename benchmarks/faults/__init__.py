"""Faults that are put into models and into what surrounds them, for `benchmarks/diagnosis.py`."""
