"""The narration of a trace: recordings in, sections of steps out."""
