"""The commands a person types. Never imported when a host starts the process."""
