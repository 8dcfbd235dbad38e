"""Pages that no head reaches any more, and their removal.

`page_removal` is for the process that has replaced them. The `collector` finds those that crashes leave, or whose head another
client has overwritten; it decides by `suspects`, and keeps paused writers out by a `fence`.
"""
