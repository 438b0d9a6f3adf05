"""GGUF, the file of llama.cpp: header, names, vocabulary and quantised numbers, each way."""
