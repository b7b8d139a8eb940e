"""Images and labels: where they come from, how clients share them, how they become a batch."""
