"""The parts of sequential evidence: what a prompt and its replies tell, and what asking on is worth (`policies.sequential`)."""
