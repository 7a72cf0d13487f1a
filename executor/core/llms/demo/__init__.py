"""Demo: a model of fixed rules, with no network and no key, that really calls the functions it is given.

How it thinks, from the inside out:

* `reading`, `dates`, `measures`, `places` find texts, numbers, dates, units and cities in what the person wrote;
* `skills` are what it can do. A skill reads a request into a `Goal`, and a goal has a `plan`: a generator that yields
  the calls it wants, is sent their results, and returns the answer;
* `planning` runs a plan against the transcript: rounds that have already happened are fed in from there, the first that
  has not is the next step. Nothing is remembered in between, so the same transcript always gives the same step;
* `model` streams that step.
"""

from executor.core.llms.demo.model import Demo

__all__ = ["Demo"]
