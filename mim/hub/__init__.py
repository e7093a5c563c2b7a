"""This node's sockets by topic, and what must happen to them in time."""
