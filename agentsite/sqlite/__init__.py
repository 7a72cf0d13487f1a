"""SQLite, with a queue for those who write."""
