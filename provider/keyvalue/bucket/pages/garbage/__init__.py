"""Pages that no head reaches any more, and their removal.

`page_removal` is for the process that has replaced them. What crashes leave, and what others overwrite, is found by the
`collector`, which decides by `suspects` and keeps paused writers out by a `fence`.
"""
