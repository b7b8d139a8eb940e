"""The option by which commands are told which runtime to use."""

import click


class RuntimeOption(click.Option):
    """--runtime. --engine, its former name, is understood and not shown."""

    def __init__(self, param_decls, **attributes):
        super().__init__(["--runtime", "--engine", "runtime"], **attributes)

    def get_help_record(self, ctx):
        return click.Option(["--runtime"], metavar=self.metavar, help=self.help).get_help_record(ctx)


def runtime_option(text):
    """Decorator: the option, with its help."""
    return click.option(cls=RuntimeOption, metavar="NAME", help=text)
