"""What this node's plugin keeps: cards as last read, and the files on disk. It never decides who may start.

Every file can be written again from the pods' grants, so nothing here needs to survive a reboot.
"""
