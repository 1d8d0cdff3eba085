"""`stretto connect`: the configuration of other programs, so that they ask this gateway.

`gateway` finds out what the gateway is, `tools` knows what each program reads, `edits` changes files of three formats without
losing what is in them, `record` writes them and takes them back.
"""
