"""Where a command runs: devices that are reached from here, and what they are given to run."""
