"""Files and folders in a place where strangers may write, opened once and checked on what was opened.

A name can be another file the next instant, a link to a file that only the server may read, or a FIFO whose opening
waits for ever. So nothing is followed, nothing is waited for, and all checks are made on descriptors.
"""

import contextlib
import errno
import os
import stat

WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def identity(status):
    """What tells a file from another one of its name: inode, size, time of its last change."""
    return status.st_ino, status.st_size, status.st_mtime_ns


@contextlib.contextmanager
def open_folder(path):
    """A descriptor of the inbox itself, which its owner names and may be a link."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield folder
    finally:
        os.close(folder)


@contextlib.contextmanager
def open_regular(name, folder):
    """A regular file by its name in a folder (a descriptor): (binary file, its status). Raises `OSError` for others."""
    try:
        descriptor = os.open(name, READ, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link") from error
        raise
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no file")
        yield file, status


@contextlib.contextmanager
def own_folder(name, folder, make=False):
    """A descriptor of a folder below another one (a descriptor): this user's own, and closed to others.

    make: where it is missing. Raises `OSError` for none, a link, a file, or a folder of somebody else.
    """
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=folder)
    descriptor = os.open(name, READ | os.O_DIRECTORY, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"'{name}' belongs to another user")
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(descriptor, 0o700)
        yield descriptor
    finally:
        os.close(descriptor)


def put_file(name, content, folder):
    """Write a new file that its owner alone may read; one that is there already stays as it is."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(name, WRITE, 0o600, dir_fd=folder)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
