"""
Trace JSON as columns: a compiled scanner over pieces of a file, on several threads, in bounded memory.

The one way in is `memplan.traces.scan.threads.scan_events`; `json_text` and `addresses` are what it and the loops over
columns of text (`column_loops`, for tables) are made of. It is our own because no library gives columns from JSON
without an object for each event: of a trace of 500 MB that takes `orjson` 12 s and gigabytes, this one 0.9 s and 370
MB.
"""
