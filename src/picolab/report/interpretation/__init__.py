"""What an analysis of `interpret/` shows: its sentences, tables and pictures, in a terminal, in files, on a page."""
