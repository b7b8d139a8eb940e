"""From a run directory to a verified bundle: folded eval module -> exported graph -> programs -> bundle."""
