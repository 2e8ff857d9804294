"""
What a command line or a form asks for: frozen dataclasses of options, the same words wherever they are given.

They are light to import; what they ask of is loaded when it is asked.
"""
