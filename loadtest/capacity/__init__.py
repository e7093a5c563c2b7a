"""How large a deployment must be, reckoned from measured unit costs (docs/capacity.md)."""
