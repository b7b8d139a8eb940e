"""The roles of programs: what of a network each holds."""

# of programs that answer for an image -> which of them a prediction prefers: first those that show which channels ran
INFERENCE = {"dense": 3, "masked": 1, "skip": 0, "static": 2}
INFERENCE_ROLES = tuple(INFERENCE)
TAIL_ROLES = ("trunk", "tail", "train", "train-module")
