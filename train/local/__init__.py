"""A client's training: one step, its loop and its stacked form; and evaluation."""
