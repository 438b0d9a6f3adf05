"""Many models against each other: the same data, the same budget, several seeds, one table, words that the numbers support."""
