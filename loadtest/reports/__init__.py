"""What a run found, for terminals, programs and people."""
