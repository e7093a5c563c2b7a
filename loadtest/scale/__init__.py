"""Whether cost grows as work grows: the same traffic among more connections, chats, stored messages and nodes."""
