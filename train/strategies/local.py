"""What an algorithm asks of a client's training."""

import functools

import torch

from .fedprox import proximal_term
from .scaffold import CONTROL, control_change, correct


class LocalTerms:
    """An algorithm's part in one client's training.

    plan: its `algorithm` and `proximal_mu`. control: the server's control variates, state: what the client keeps, both
    as "control/PARAMETER" among other things.
    """

    def __init__(self, network, plan, control, state):
        self.parameters = {name: p for name, p in network.body.named_parameters() if p.requires_grad}
        self.algorithm, self.control = plan.algorithm, control
        self.add = nothing
        if plan.algorithm in ("fedprox", "scaffold"):
            self.starts = {name: p.detach().clone() for name, p in self.parameters.items()}
        if plan.algorithm == "fedprox":
            self.add = functools.partial(proximal_term, self.parameters, self.starts, plan.proximal_mu)
        if plan.algorithm == "scaffold":
            drift = {}
            for name, parameter in self.parameters.items():
                own = state.get(CONTROL + name)
                difference = torch.tensor(control[CONTROL + name] if own is None else control[CONTROL + name] - own)
                drift[name] = difference.to(parameter.device)
            self.add = functools.partial(correct, self.parameters, drift)

    def control_changes(self, distance):
        """By parameter how the client's control variate changed; nothing where the algorithm has none.

        distance: of `Moves`.
        """
        if self.algorithm != "scaffold":
            return {}
        return {
            name: control_change(
                self.starts[name].cpu().numpy(),
                parameter.detach().cpu().numpy(),
                self.control[CONTROL + name],
                torch.as_tensor(distance(name)).cpu().numpy(),
            )
            for name, parameter in self.parameters.items()
        }


def nothing():
    """FedAvg and FedNova leave gradients as they are."""
