"""What is wrong with a model, and where? Laws, comparisons with another engine, causes that are proved by undoing them."""
