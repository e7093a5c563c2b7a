"""One part of the server alone, and what it costs."""
