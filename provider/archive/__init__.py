"""Make and read provider archives. Never imported when a host starts the process; `bootstrap` travels in the executable."""
