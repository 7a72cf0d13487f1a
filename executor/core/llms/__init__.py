"""The language models, one file each, with the same function names in the same order."""
