"""The parts of `fuse`: who is asked, how one answer is selected, what an analyst compares, how a writer makes one of them."""
