"""What must hold at the end of a run, and what it is judged by."""
