"""mim: a real-time mobile instant messenger server in which an acknowledgement means durable."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mim")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"
