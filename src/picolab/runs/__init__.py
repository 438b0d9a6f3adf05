"""A run on disk: settings, metrics, samples, checkpoints."""
