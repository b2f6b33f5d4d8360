"""Orders in the index: what changes them, the messages that did, and the worklist."""
