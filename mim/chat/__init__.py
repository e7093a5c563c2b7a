"""The use cases of a messenger: sending, reading, syncing, and every CALL method, declared once each."""
