"""Functions as agents see them: plain Python. No Django; what it needs is passed in."""
