"""Parameters <-> files."""
