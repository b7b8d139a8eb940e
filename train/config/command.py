"""Options on the command line: under headings in `--help`, as forty in one list are read by nobody."""

import click

from .declare import click_option, declared

COLUMN = 32  # of the options' names, at most


def heading(title):
    """Decorator: the options that stand between it and the next heading below it are shown under `title`.

    Where an option is declared says what it is about, so nothing else has to list it.
    """

    def mark(function):
        for param in function.__click_params__:  # decorators run from the bottom up: only its own are unmarked yet
            if not hasattr(param, "heading"):
                param.heading = title
        return function

    return mark


def config_options(config, *groups):
    """Decorator: the options of a configuration's groups, each under its heading."""

    options = list(declared(config).values())

    def add(function):
        for group in reversed(groups):
            for field, about in reversed(options):
                if about.group == group:
                    function = click_option(field, about)(function)
            function = heading(group)(function)
        return function

    return add


class GroupedCommand(click.Command):
    """A command whose `--help` shows each option under its heading, and one without (--help) under the first.

    closing: a section that follows the options, (title, rows of name and text).
    """

    def __init__(self, *arguments, closing=None, **named):
        super().__init__(*arguments, **named)
        self.closing = closing

    def format_options(self, ctx, formatter):
        params, sections = self.get_params(ctx), {}
        for param in params:
            record = param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "heading", params[0].heading), []).append(record)
        # One column for all of them: the eye goes down it.
        width = min(COLUMN, max(len(names) for rows in sections.values() for names, _ in rows))
        for title, rows in (*sections.items(), *([self.closing] if self.closing else [])):
            with formatter.section(title):
                formatter.write_dl([(names.ljust(width), text) for names, text in rows], col_max=width)
