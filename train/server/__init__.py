"""The server's side of a run: who takes part, what arrives when, what is believed, what lies in the run directory."""
