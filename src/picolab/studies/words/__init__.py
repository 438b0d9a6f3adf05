"""What a study found, in words: a file a question, each sentence made from figures that stand beside it and from nothing else."""
