"""A study in pictures, drawn from study.json alone: a file a question, which gives a figure, or None where data are missing."""
