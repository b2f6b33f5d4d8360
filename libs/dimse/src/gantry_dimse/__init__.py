"""pynetdicom made fast and safe: the DIMSE server, receive path and send path."""
