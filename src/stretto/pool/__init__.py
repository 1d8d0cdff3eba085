"""Workers: who can be asked, and how a question reaches them."""
