"""The express lane: the leader binds, in batches, the waiting pods of which it understands every constraint.

It belongs here if it decides which pods those are, in which order they are bound and when, or if it counts what nodes
have for them beside their cards. It does not if it is about cards, quota or reservations (state), about how a Binding
is sent (extender), or about pods that fit nowhere: kube-scheduler, the planner and preemption deal with these.
"""
