"""The HTTP side of the port: signing in, calls, health and metrics."""
