"""Watches: calls of an actor with the changes of its bucket.

Read `watch` first: the life of a watch, from a change to the actor's answer. `position` is how far the actor is, kept
by the server; `dead_letters` stores the changes that the actor does not take; `patterns` selects the keys.
"""
