"""The part of a replica that decides which messages of others it takes in.

Read `signed` first: the format of messages, on the keys of `cluster_keys`. `authentication` checks that a message comes from
a member, and with `sequences` that it comes for the first time. `admission` then checks its content against limits, before
any of it is merged. `refused_messages` names the reasons for which a message is refused, and `joining` tells when a new
replica may take it that it has caught up.
"""
