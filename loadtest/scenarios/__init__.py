"""One module per scenario, each with one function `run(target, ...) -> Report`."""
