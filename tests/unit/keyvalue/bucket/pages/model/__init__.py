"""An executable model of one key's head and pages: writers, collectors, readers, other clients, pauses, lost answers, kills.

`world` has the servers, `writers`, `collectors` and `bystanders` the processes, `rules` the rules that can be taken out, and
`search` visits the states. A process that makes no further step is paused or killed. `python -m` on this package searches as
deep as it is told.
"""
