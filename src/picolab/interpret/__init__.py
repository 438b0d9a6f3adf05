"""What a model has learned: one analysis a file, of any checkpoint here."""
