"""Plans over several clusters: how many units of each workload go to which cluster, on which kind of card.

It belongs here if it sees clusters as counts of equal nodes. Which card a pod gets is decided in its own cluster.
"""
