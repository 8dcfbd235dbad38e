"""The half that talks to the host."""
