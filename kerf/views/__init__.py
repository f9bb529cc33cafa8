"""What people look at, as values with a JSON form: the CLI draws them as tables; a page and a gateway export read them.

Pure: no I/O, no layout, no colours.
"""
