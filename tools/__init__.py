"""What agents can use: functions, the registry that finds them, and the files they make."""
