"""How fast and how small it is, measured against the bare SDK on the same server in the same run (`make bench`)."""
