"""What :mod:`loadtest.server` opens: private installations, servers that run already, and where their processes are."""
