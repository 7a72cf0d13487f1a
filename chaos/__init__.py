"""`make chaos`: a real site that is killed at random and at every commit, and what an outside ledger says of it."""
