"""The live page: a read-only listener of its own, beside the extender's and in a thread of its own.

It belongs here if it shows what the scheduler knows to people who may see it. What a row has is in `kerf/views/page`,
and what is known is asked of `scheduler/state/sight.py`. Nothing here changes anything in the cluster, the page's own
key apart.
"""
