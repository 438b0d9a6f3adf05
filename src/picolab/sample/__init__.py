"""Logits to text: choosing one token, and the loop that writes a text."""
