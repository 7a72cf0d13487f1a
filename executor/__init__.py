"""Agents and the tasks they work on: configuration, the loop, the language models, the worker."""
