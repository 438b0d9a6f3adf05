"""Watching one pass: names of places, what was seen there, bundles on disk, and the same from other engines."""
