"""What happens to loss, speed and samples if ..? Many ordinary runs over settings and seeds, and what they say together."""
