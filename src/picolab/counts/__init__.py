"""What a corpus says without a network: n-grams and skip-grams counted from training text, and attention computed from them."""
