"""What makes an archive answer with each status that its conformance statement claims."""
