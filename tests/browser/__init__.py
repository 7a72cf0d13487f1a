"""The product in a real Chromium: a whole site, real pages, and nothing in the console that is not expected."""
