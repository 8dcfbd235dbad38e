"""What measures links with `BACKEND=cache`: several provider processes that hold the same."""
