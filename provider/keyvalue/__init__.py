"""The half that keeps data."""
