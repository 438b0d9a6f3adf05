"""The commands, one a file: the only place that parses, prints or exits."""
