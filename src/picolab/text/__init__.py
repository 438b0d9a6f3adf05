"""Strings to token ids and back: bytes, characters, integers, byte-pair encoding; compact vocabularies; streams."""
