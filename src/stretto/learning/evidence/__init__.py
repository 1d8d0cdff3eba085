"""Learning of the evidence policy: success, posterior, values of stopping, risk, drift."""
