"""One architecture a file, readable top to bottom, none importing another."""
