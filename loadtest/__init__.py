"""Load tests that speak only the public protocol: `python -m loadtest --help`."""
