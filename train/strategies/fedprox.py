"""FedProx: T. Li, A. K. Sahu, M. Zaheer, M. Sanjabi, A. Talwalkar, V. Smith, "Federated Optimization in Heterogeneous
Networks", MLSys 2020, algorithm 2: clients minimise F_k(w) + mu / 2 |w - w_t|^2; the server averages as FedAvg does.
"""

import torch


@torch.no_grad()
def proximal_term(parameters, starts, mu):
    """Add mu (w - w_t) to the gradients of `parameters`, where they have one; starts: w_t by name."""
    for name, parameter in parameters.items():
        if parameter.grad is not None:
            parameter.grad.add_(parameter - starts[name], alpha=mu)
