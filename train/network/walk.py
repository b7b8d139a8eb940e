"""A traced network run node by node, for those who run its operations on other tensors than the network itself does."""

import operator

from torch import fx


class Walk:
    """Runs the graph of a `GatedNetwork` in training; a subclass says what a node does with the values before it.

    `call(node, module, args, kwargs)` returns the value of a node that calls a module, a function or a method;
    module: the module called, else None.
    """

    def __init__(self, network):
        self.network, self.body = network, network.body
        graph = network.body.graph if network.training_graph is None else network.training_graph
        last = {}
        for node in graph.nodes:
            for source in node.all_input_nodes:
                last[source] = node
        self.steps = []  # (node, its module, the nodes whose values nobody needs after it)
        for node in graph.nodes:
            module = self.body.get_submodule(node.target) if node.op == "call_module" else None
            self.steps.append((node, module, [source for source, user in last.items() if user is node]))

    def __call__(self, images):
        """images (N, C, H, W) -> the value of the graph's output, at the network's level."""
        for unit in self.network.units.values():
            unit.level = self.network.level
        values = {}
        for node, module, done in self.steps:
            args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            if node.op == "placeholder":
                values[node] = images
            elif node.op == "get_attr":
                values[node] = operator.attrgetter(node.target)(self.body)
            elif node.op == "output":
                return self.finish(args[0])
            else:
                values[node] = self.call(node, module, args, kwargs)
            for source in done:
                del values[source]

    def finish(self, value):
        """What the walk returns for the value of the output node."""
        return value


def plainly(node, module, args, kwargs):
    """The value of a node that calls a module, a function or a method, as the graph itself computes it."""
    if node.op == "call_method":
        return getattr(args[0], node.target)(*args[1:], **kwargs)
    return (module or node.target)(*args, **kwargs)
