"""What the server makes of its clients' updates, and what an algorithm asks of local training: one file a paper."""

from .state import ServerState
from .step import NotTaken, Strategy, initial_state, round_step, strategy_of

__all__ = [
    "NotTaken",
    "ServerState",
    "Strategy",
    "initial_state",
    "round_step",
    "strategy_of",
]
