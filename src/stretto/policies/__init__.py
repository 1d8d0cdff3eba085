"""Ways to orchestrate: pure proposals. They import nothing that acts."""
