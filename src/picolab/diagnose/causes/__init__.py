"""The catalogue of causes: what a wrong line of mathematics makes, how it is recognised, undone and explained, one a file."""
