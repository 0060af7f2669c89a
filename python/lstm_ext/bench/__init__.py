"""The harness: this package beside its peers, in one process, checked before it is timed.

`grid` names the shapes, `cases` makes their data, `peers` runs them in each framework, `small`
emulates the formats of small weights, `timing` measures in interleaved rounds, `floor` says what
the machine allows, `report` and `plot` show it, and `runner` goes through it all.
"""
