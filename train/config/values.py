"""Values of options that are written as text: speeds of links, spreads, shares of clients."""

import math

from fedgate.device_runtime.errors import UsageError

BITS = {"bit": 1.0, "kbit": 1e3, "Mbit": 1e6, "Gbit": 1e9}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's mean and deviation


def parse_rate(text):
    """'10Mbit' -> 1e7, bits a second; units bit, kbit, Mbit and Gbit (powers of 1000, as links are sold)."""
    number, unit = split_number(text)
    if unit not in BITS or not 0 < number < math.inf:
        raise UsageError(f"'{text}' is no speed of a link such as 10Mbit; units: {', '.join(BITS)}")
    return number * BITS[unit]


def split_number(text):
    """'10Mbit' -> (10.0, 'Mbit'); a text that starts with no number gives nan."""
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/")
    try:
        return float(digits), text[len(digits) :]
    except ValueError:
        return float("nan"), text


def parse_spread(text):
    """'0.5' -> (0.5,), the deviation of a log-normal; '0.25:2' -> (0.25, 2.0), the ends of a range."""
    try:
        numbers = tuple(float(part) for part in text.split(":"))
    except ValueError:
        numbers = ()
    if len(numbers) == 1 and 0 <= numbers[0] <= 5:
        return numbers
    if len(numbers) == 2 and 0 < numbers[0] <= numbers[1] < math.inf:
        return numbers
    raise UsageError(f"--speed-spread '{text}' is neither a deviation from 0 to 5, such as 0.5, nor LOW:HIGH")


def parse_capacity(text):
    """'1.0:0.3,0.4:0.7' -> ((0.4, 0.7), (1.0, 0.3)): densities, increasing, with their shares of the clients."""
    try:
        pairs = sorted(tuple(float(part) for part in item.split(":")) for item in text.split(","))
        densities, shares = zip(*((density, share) for density, share in pairs), strict=True)
    except ValueError as error:
        raise UsageError(f"--capacity '{text}' is no list of DENSITY:SHARE such as 1.0:0.3,0.5:0.7") from error
    if len(set(densities)) < len(densities):
        raise UsageError(f"--capacity '{text}' names a density twice")
    if not all(0 < share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"--capacity '{text}': the shares of the clients must be above 0 and sum to 1")
    return tuple(pairs)


def parse_normalise(text):
    """'data' -> None, 'imagenet' or '0.5/0.25' -> (mean, deviation) of pixels scaled to [0, 1], floats each.

    One number is that of every channel.
    """
    if text == "data":
        return None
    if text == "imagenet":
        return IMAGENET
    try:
        mean, std = (tuple(float(part) for part in side.split(",")) for side in text.split("/"))
    except ValueError:
        mean, std = (), ()
    good = 0 < len(mean) == len(std) and all(map(math.isfinite, mean)) and all(1e-6 <= each <= 1e6 for each in std)
    if not good or max(map(abs, mean)) > 1e6:
        raise UsageError(
            f"--normalise '{text}' is neither data, imagenet nor MEAN/STD such as 0.5,0.5,0.5/0.25,0.25,0.25"
        )
    return mean, std
