"""One module per outside system: objects, index and queue."""
