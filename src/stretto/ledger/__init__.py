"""The only memory: append-only events, how they are kept, and readings of them."""
