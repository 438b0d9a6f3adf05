"""Laws: what holds of every correct language model, whatever it computes; one a file, none needs a reference."""
