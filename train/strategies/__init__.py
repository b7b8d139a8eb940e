"""What the server makes of its clients' updates, and what an algorithm asks of local training: one file a paper."""

from .state import ServerState
from .step import Strategy, combined, held, initial_state, round_step, strategy_of

__all__ = [
    "ServerState",
    "Strategy",
    "combined",
    "held",
    "initial_state",
    "round_step",
    "strategy_of",
]
