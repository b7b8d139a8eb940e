"""Federated training: data -> partition -> gated model -> local training -> update -> aggregation -> run."""
