"""Equations written out in plain tensors, each equal to torch's own by test; nothing of the zoo is imported here."""
