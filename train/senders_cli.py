"""`fedgate key`: what a device needs to send files to a run."""

import click

from fedgate.device_runtime.text import say


@click.command(short_help="Make a client's key, for updates that come as files.")
@click.argument("run", type=click.Path())
@click.option("--client", type=click.IntRange(0, 2**31 - 1), required=True, metavar="N", help="Whose.")
@click.option("--out", type=click.Path(), metavar="FILE", help="A new file, or the same again.  [client-N.key]")
def key(run, client, out):
    """Make the key by which a device proves to be client N of a run with an --inbox; prints the file's name.

    N is a client of the run, which then trains on that device alone, or any other number, for a device beside them.
    The same command makes the same key again. Give it to fedgate finetune --key, or paste it into the app's field for
    the client. Whoever has it speaks for that client: keep it as you keep a password.

    \b
    Example:
      fedgate key runs/tail --client 3 --out phone.key
      fedgate finetune tail.fedgate --data photos --key phone.key --out tuned
    """
    from .server.senders import make_key

    say(str(make_key(run, client, out)))
