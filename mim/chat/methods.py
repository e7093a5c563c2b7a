"""All CALL methods there are. Importing the modules declares them, so whoever wants METHODS takes it from here."""

from mim.chat import chat_calls, member_calls, message_calls, profile_calls, push_calls
from mim.chat.calls import METHODS, Method

MODULES = (chat_calls, member_calls, message_calls, profile_calls, push_calls)

__all__ = ["METHODS", "MODULES", "Method"]
