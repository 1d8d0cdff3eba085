"""HTTP in, HTTP out: an ASGI application over an engine, a catalogue of names, the keys, and a reader of the ledger."""
