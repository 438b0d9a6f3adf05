"""Numbers about one model: loss, bits per byte, parameters, memory, speed, where it looks."""
