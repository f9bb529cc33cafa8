"""What servers of models really hold: the leader reads it from the nodes and keeps it in the cluster.

Here: which servers there are, and when to write. What a server teaches is `kerf.sizing.learned`.
"""
