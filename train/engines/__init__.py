"""What trains and evaluates the clients of a round: a loop in this process, a stack on a GPU, Flower's nodes."""
