"""The doors for sockets: handshake, connection, opening a session, draining."""
