"""The manager of a fleet: clusters that come and go, workloads that are split over them.

It belongs here if it acts for several clusters at once. What a plan is and what it costs is in `solver.fleet`, which is
pure; which card a pod gets is decided in its own cluster.
"""
