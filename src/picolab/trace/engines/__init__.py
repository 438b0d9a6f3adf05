"""Engines that run a decoder and can be watched: picolab itself, transformers, llama.cpp."""
