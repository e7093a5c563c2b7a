"""Who may come in: by one-time code, by refresh token, by the server's own tokens, by an app's tokens."""

from mim.auth.identity import Entrance, Identity, SignIn
from mim.auth.refresh import Tokens
from mim.auth.sms import LogSms, SmsProvider
from mim.auth.tokens import Principal, Revoked

__all__ = ["Entrance", "Identity", "LogSms", "Principal", "Revoked", "SignIn", "SmsProvider", "Tokens"]
