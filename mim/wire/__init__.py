"""The wire contract as code: frame types, codecs and the sans-I/O session. Knows no socket and no database."""
