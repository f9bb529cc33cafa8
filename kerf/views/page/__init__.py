"""The live page's picture: rows by section and key, and what a person sees of it.

Pure. The page's scripts read the same rows, so a change here is a change of `scheduler/page/static`.
"""
