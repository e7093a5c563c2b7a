"""The browser of the web client's tests serves for pages of reports too."""

from tests.web.conftest import chromium

__all__ = ["chromium"]
