"""The part of a replica that decides what it takes in from others.

`refusals` names the reasons for which a message is refused. `admission` checks the content of messages against limits
before any of it is merged.
"""
