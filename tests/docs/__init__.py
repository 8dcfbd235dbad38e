"""The parts of the documentation that a script writes: pictures and the table of settings."""
