"""The echo bot of the package's docstring, run as it stands there."""
