"""Notifications for devices that do not listen (docs/push.md).

The planner decides after the commit who is to be told, into a table; workers of any node, or of `mim push`, send from
it through one lane per provider. Text is read when a notification is sent, so the table holds none.
"""
